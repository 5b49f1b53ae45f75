"""The training run: steps, schedule, validation, meters, checkpoints at the right moments."""
