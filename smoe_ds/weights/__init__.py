"""What can be done with trained weights: average, export, prune, upcycle and import them, or start a run from them."""
