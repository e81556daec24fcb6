"""Looking after a store: is every file in it what it should be, and what to do where one is not."""
