"""What sources that are hubs of models share: the list of files, how one is locked, and whose token is for whom."""
