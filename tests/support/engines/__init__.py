"""Requests to engines, and kits of real weights."""
