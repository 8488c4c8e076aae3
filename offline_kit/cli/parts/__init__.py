"""The commands for a bundle in parts."""
