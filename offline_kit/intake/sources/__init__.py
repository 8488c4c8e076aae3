"""One interface for all places that images and models come from."""
