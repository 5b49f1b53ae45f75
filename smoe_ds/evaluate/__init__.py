"""Held-out text translated and scored."""
