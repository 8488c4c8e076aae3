"""The content-addressed store of blobs between builds."""
