"""Reward model."""
