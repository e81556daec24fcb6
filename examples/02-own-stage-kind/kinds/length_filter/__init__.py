"""A stage kind that keeps rows by the length of their response."""
