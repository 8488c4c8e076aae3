"""Runs inside the engine image on the host. Standard library and PyYAML only; Python 3.8 and later."""
