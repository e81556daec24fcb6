"""The care of a store: is every file in it what it should be, and what may go when room is needed."""
