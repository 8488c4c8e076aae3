"""Projects as a user has them, for real commands."""
