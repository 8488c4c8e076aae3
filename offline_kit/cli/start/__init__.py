"""Commands of the beginning: ``init`` writes a project, ``doctor`` says what this machine lacks."""
