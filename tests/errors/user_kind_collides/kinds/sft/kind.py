"""A kind with the name of a built-in one."""
