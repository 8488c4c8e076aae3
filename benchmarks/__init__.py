"""Measurements side by side, as ratios.

Run from the top of a checkout: python -m benchmarks.bundle
"""
