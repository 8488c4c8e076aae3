"""Writing a bundle: staging, archive, parts, compression."""
