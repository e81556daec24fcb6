"""Data split: sources to demonstrations, preferences and prompts."""
