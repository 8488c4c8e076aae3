"""Scanners of a site, run over the payload before it is packed, and the record of what they said."""
