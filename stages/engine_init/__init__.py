"""The four models' start, checked before PPO spends hours."""
