"""A kind that forgets its KIND."""
