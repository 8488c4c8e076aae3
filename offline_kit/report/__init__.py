"""The report of a bundle: what is inside it, as one page that needs nothing else."""
