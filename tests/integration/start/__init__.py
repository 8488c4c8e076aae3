"""The first hour: a new user's own folders from init to a bundle."""
