"""The command line: one file a command. Options in, one call, the answer out."""
