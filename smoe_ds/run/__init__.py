"""The run folder: paths, lock, record of the run, history of its scalars; and what its log says of trained weights.

Names of its files are in `smoe_ds.run_names`, the format of checkpoints in `smoe_ds.checkpoints`.
"""
