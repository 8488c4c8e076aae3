"""What every other package may use: digests, errors, progress, files, threads. Knows nothing of bundles, hubs or hosts."""
