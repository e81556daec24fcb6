"""YAML text to a validated pipeline, with every error at its place."""
