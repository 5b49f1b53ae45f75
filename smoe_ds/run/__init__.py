"""What a run folder holds: its names, its lock, the history of its scalars."""
