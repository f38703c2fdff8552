"""The backends: one room each, and none knows of another."""
