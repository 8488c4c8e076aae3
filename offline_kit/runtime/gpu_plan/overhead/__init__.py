"""What an engine takes beside weights and KV cache: estimates, each with its derivation."""
