"""The training library that every stage kind shares."""
