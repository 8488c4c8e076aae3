"""Runs inside the unified image: all engines of config/models.json in one container, and a proxy before them."""
