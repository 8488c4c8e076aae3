"""A kit to a registry of the site: its images, and its models as images and artifacts."""
