"""A folder that transformers loads with nothing of ours installed."""
