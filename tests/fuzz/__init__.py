"""Valid things changed at random, with fixed seeds, given to whatever reads them."""
