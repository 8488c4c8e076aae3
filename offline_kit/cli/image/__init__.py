"""What becomes an image instead of a bundle."""
