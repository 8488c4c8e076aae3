"""A real Kubernetes of one node, from Debian's packages alone."""
