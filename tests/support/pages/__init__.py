"""What tests of pages need: a bundle that has something to show."""
