"""A kit's settings to objects of Kubernetes."""
