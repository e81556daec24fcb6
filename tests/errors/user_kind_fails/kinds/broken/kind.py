"""A kind that divides by zero."""

LEVEL = 1 / 0
