"""README.md and README.zh.md of a bundle."""
