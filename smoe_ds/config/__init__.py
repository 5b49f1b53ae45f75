"""Run configuration: one DeepSpeed JSON with a ``"smoe"`` section."""
