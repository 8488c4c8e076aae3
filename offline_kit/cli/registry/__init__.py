"""Commands that speak to a registry of the site."""
