"""The bundle format, version 1, as pure functions and records. docs/bundle-format.md is its specification."""
