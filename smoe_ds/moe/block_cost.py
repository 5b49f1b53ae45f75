"""What a stratified block costs, :class:`smoe_ds.moe.layer.StratifiedMoE`, whichever system it is set to.

Shape letters as in :mod:`smoe_ds.moe`: ``D`` model width, ``F`` feed-forward width, ``E`` experts that a gate sees,
``L`` strata, ``K`` choices, ``T`` tokens of a stratum, ``R`` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smoe_ds.moe.cost import FFN_INNER, FP32, Cost, Storage, feed_forward, layer_norm, total
from smoe_ds.moe.loads import StratumLoad
from smoe_ds.moe.placement import Placement

_LEAN_INNER = {"relu": 1, "gelu": 1, "swiglu": 2}
"""Tensors [R, F] that experts keep when they are computed the lean way."""
_GATE_BYTES = 4  # gates compute in float32


@dataclass(frozen=True)
class BlockSizes:
    """The settings of a block that its cost depends on.

    Attributes:
        d_model: D.
        d_ffn: F.
        placement: the strata, and on how many ranks their experts lie.
        top_k: K.
        activation: of the experts.
        shared_expert: ``none``, ``add`` or ``cmr``.
        output_norm: whether the block's output is normalised (``norm: released``).
        jitter: whether the gate's input is multiplied by noise.
        backend: how experts are computed, see :func:`smoe_ds.moe.expert_backends.choose_backend`.
    """

    d_model: int
    d_ffn: int
    placement: Placement
    top_k: int = 2
    activation: str = "relu"
    shared_expert: str = "none"
    output_norm: bool = False
    jitter: bool = False
    backend: str = "lean"


def stratified_block(
    sizes: BlockSizes, loads: Sequence[StratumLoad], storage: Storage = FP32, forwards: int = 1
) -> Cost:
    """A block in one micro-batch of one rank.

    Args:
        sizes: of the block.
        loads: tokens and rows of each stratum, see :func:`smoe_ds.moe.loads.stratum_loads`; or as they were counted.
        storage: of the tensors.
        forwards: forward passes per backward pass, for the exchange: 2 with activation checkpointing.
    """
    row_bytes = sizes.d_model * storage.itemsize
    tokens = loads[0].tokens
    expert = feed_forward(sizes.d_model, sizes.d_ffn, sizes.activation, 0, kind="experts")
    experts = sizes.placement.num_experts
    cost = Cost(
        parameters={kind: experts * number for kind, number in expert.parameters.items()},
        matrices=experts * expert.matrices,
        exchanged_bytes=sum(load.exchanged_bytes(row_bytes, forwards) for load in loads),
        temporary_bytes=2 * loads[0].sent_rows * row_bytes,  # what the first stratum sends and gets at once
    )
    cost += total(_stratum(sizes, i, load, storage) for i, load in enumerate(loads))
    if sizes.shared_expert != "none":
        cost += _shared_expert(sizes, tokens, storage)
    return cost + layer_norm(sizes.d_model, tokens, storage) if sizes.output_norm else cost


def _stratum(sizes: BlockSizes, stratum: int, load: StratumLoad, storage: Storage) -> Cost:
    """LayerNorm, gate, and the routed experts' work in one stratum."""
    stacked, later = sizes.placement.stacked, stratum > 0
    cost = _gate(sizes, stratum, load.tokens, storage) + _routed_experts(sizes, load, storage)
    if not (stacked and later):
        cost += layer_norm(sizes.d_model, load.tokens, storage)
    if later and not stacked:  # the output, which is added at some of the tokens
        cost += _wide(sizes, load.tokens, storage.itemsize)
    return cost


def _gate(sizes: BlockSizes, stratum: int, tokens: float, storage: Storage) -> Cost:
    """A gate keeps its input in float32, logits and probabilities; the experts' input is another tensor if that is a
    copy, kept by experts that gather their rows a second time and by a shared one."""
    visible = len(sizes.placement.visible_experts(stratum))
    apart = storage.half or sizes.jitter
    wanted = sizes.backend == "lean" or (sizes.shared_expert != "none" and stratum == 0)
    noise = storage.itemsize * sizes.jitter
    width = _GATE_BYTES + noise + (storage.itemsize if apart and wanted else 0)
    weights = visible * sizes.d_model
    return Cost(
        parameters={"gates": weights},
        flops={"gates": 2 * weights * tokens},
        saved_bytes=tokens * (sizes.d_model * width + 2 * _GATE_BYTES * visible),
    )


def _routed_experts(sizes: BlockSizes, load: StratumLoad, storage: Storage) -> Cost:
    """The rows' matrix products. The lean way keeps neither rows nor outputs; grouped products keep the weights of a
    rank's experts once more, as one tensor."""
    once = feed_forward(sizes.d_model, sizes.d_ffn, sizes.activation, load.rows, kind="experts")
    lean = sizes.backend == "lean"
    inner = (_LEAN_INNER if lean else FFN_INNER)[sizes.activation] * sizes.d_ffn
    row = inner + (0 if lean else 2 * sizes.d_model)
    weights = load.busiest_experts * once.matrices if sizes.backend == "grouped" else 0
    saved = (load.rows * row + weights) * storage.itemsize + load.rows * sizes.d_model * storage.dropout
    return Cost(flops=once.flops, rows=load.rows, saved_bytes=saved)


def _shared_expert(sizes: BlockSizes, tokens: float, storage: Storage) -> Cost:
    """The expert that all tokens pass, and CMR's gate, which keeps both outputs that it mixes."""
    cost = feed_forward(sizes.d_model, sizes.d_ffn, sizes.activation, tokens, storage, kind="shared_experts")
    if sizes.shared_expert == "add":
        return cost
    copy = _GATE_BYTES if storage.half else 0
    gate = Cost(parameters={"gates": sizes.d_model + 1}, flops={"gates": 2 * sizes.d_model * tokens})
    return cost + gate + _wide(sizes, tokens, 2 * storage.itemsize + copy)


def _wide(sizes: BlockSizes, tokens: float, itemsize: int) -> Cost:
    """A tensor [T, D] that is kept."""
    return Cost(saved_bytes=tokens * sizes.d_model * itemsize)
