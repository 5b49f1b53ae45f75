"""Checks before a run starts: whether these processes, on these hosts, can train it; one file a kind of check."""
