"""The one package that knows DeepSpeed: building the engine, its state by logical name, committed checkpoints."""
