"""Run in the engine image when a kit is rehearsed: what its models would need, and the capture that sees who asks a network."""
