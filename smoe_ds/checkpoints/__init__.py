"""Committed checkpoints as files: layout, manifest, parts, verification; no ranks, no DeepSpeed."""
