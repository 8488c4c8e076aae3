"""What is wanted (manifest) and what it became (lock): parse, check, canonical text. No input or output in here."""
