"""One trained model made from others: the mean of checkpoints, an export for inference."""
