"""The outside world comes in: sources, the one verifying transfer, the store."""
