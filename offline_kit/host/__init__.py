"""What a bundle carries for the host besides the payload: scripts, configuration, manual, bill of materials."""
