"""Pickled weights become safetensors: in a process of their own, which has neither files nor network nor rights."""
