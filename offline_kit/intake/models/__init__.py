"""What is true of a model whatever its source: which files are taken, if its weights are whole, what the GPU plan needs."""
