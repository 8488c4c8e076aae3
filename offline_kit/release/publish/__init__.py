"""Releases taken from their folder to where others get them: an S3-compatible store, an OCI registry."""
