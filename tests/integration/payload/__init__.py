"""Scanners and conversion: what happens to the payload between fetch and packing."""
