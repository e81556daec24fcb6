"""A store that a team shares: results are pushed to it and pulled from it, over fsspec."""
