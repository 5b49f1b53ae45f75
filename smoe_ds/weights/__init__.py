"""Trained weights put to other uses: averaged, exported, pruned, upcycled, imported, started from."""
