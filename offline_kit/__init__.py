"""offline-kit: one manifest to one verified bundle, and that bundle to running vLLM services without a network."""

__version__ = "0.1.0"
