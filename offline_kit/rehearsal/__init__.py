"""A kit tried out where it is built, with the network cut: before it travels, not after."""
