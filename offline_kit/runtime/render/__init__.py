"""Settings and plan to the files that the services run with."""
