"""The aligned model against the SFT model on held-out prompts."""
