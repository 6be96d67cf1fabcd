"""Training: how the shipped weights were made."""
