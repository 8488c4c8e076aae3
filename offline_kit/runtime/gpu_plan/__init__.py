"""How much memory each engine takes on each GPU, and what would fit."""
