"""What several commands take: which manifest, sizes, and all that fetching needs."""
