"""DeepSpeed's engine as a run uses it: how it is built, its state by logical name, committed checkpoints.

What is used of the engine, and of the optimizers it wraps, is in ``protocol``; ``tests/test_imports.py`` lists the
files that import DeepSpeed. State lies in flat fp32 tensors by parameter name, so there are no shape letters here.
"""
