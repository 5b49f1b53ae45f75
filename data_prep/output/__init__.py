"""The folder that a preparation writes: where it may lie, who holds it, when it appears."""
