"""Signatures of bundles and kits: ECDSA P-256 over SHA256SUMS, in files of their own."""
