"""Stage kinds, one folder each, and the training library that they share."""
