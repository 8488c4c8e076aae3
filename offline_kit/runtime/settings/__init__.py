"""The operator's configuration, read and checked."""
