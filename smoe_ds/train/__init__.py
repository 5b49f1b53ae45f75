"""The training run: steps, schedule, validation, checkpoints at the right moments, and who hears of its figures.

Shape letters of this package are those of :mod:`smoe_ds.moe`: ``E`` experts that a gate sees, ``K`` choices per token.
"""
