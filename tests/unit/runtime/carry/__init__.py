"""Edits carried into a new version."""
