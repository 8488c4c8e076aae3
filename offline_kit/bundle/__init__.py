"""The file that travels: the names of its paths, its container, writing it, proving it."""
