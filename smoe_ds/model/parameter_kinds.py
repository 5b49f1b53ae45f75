"""What a parameter of the model is part of, by its logical name."""

from __future__ import annotations

from smoe_ds.config.train import TrainConfig

_GATES = {"gates", "mixtures", "cmr_gate", "coefficient"}


def kind_of(name: str) -> str:
    """The one of :data:`smoe_ds.moe.cost.KINDS` that a parameter belongs to.

    ``gates`` are those of the routers and all that a router learns, what mixes a shared expert with the routed ones,
    and the gates of ``smoe.model.language_capacity``. A shared expert, and what all experts of a block have in common,
    is in ``shared_experts``.
    """
    parts = name.split(".")
    if "experts" in parts:
        return "experts"
    if not _GATES.isdisjoint(parts):
        return "gates"
    if any("norm" in part for part in parts):
        return "norms"
    if any("attention" in part for part in parts):
        return "attention"
    if "shared" in parts or "common" in parts:
        return "shared_experts"
    return "embedding" if parts[0] == "embedding" else "feed_forward"


def lr_factor(name: str, train: TrainConfig) -> float:
    """What a run multiplies the learning rate by for a parameter."""
    return {"experts": train.expert_lr_factor, "gates": train.gate_lr_factor}.get(kind_of(name), 1.0)
