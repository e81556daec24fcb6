"""Executes a plan: scheduler, attempts, verification, progress."""
