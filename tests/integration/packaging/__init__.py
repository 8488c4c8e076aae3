"""What the package itself is made into."""
