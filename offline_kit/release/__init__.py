"""Releases that a scheduler makes: which version is next, whether anything changed, what is kept, and the index of them."""
