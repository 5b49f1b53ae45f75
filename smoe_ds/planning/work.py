"""What a rank has to do in one step, in FLOPs, rows, bytes and elements: numbers of the run alone, no device in them.

All of it holds for full micro-batches and uniform routing, where every expert that a gate sees is as likely to be
chosen and none is so full that it drops rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from smoe_ds.config.run import RunConfig
from smoe_ds.moe.accounting import stratum_shares
from smoe_ds.moe.placement import Placement

ITEMSIZE = {"fp32": 4, "fp16": 2, "bf16": 2}
"""Bytes of a weight, an activation and a gradient by precision."""
PASSES = 3
"""Forward passes that forward and backward together cost: each product has two in the backward pass."""
ROW_TOUCHES = 20
"""Times that the rows of one pass (tokens x top_k) are read or written beside the experts' products, forward and
backward: LayerNorm, gathering, dropout, weighting and summing, residual. Counted from the layer's code, roughly: what
it stands for is measured or assumed with it."""
GRADIENT_TOUCHES = 3
"""Times that a gradient is read or written on its way into a bucket and out of it."""


@dataclass(frozen=True)
class StratumWork:
    """One stratum of one block, one micro-batch of one rank.

    Attributes:
        tokens: tokens of the rank that enter.
        rows: expert rows they make, tokens times top_k.
        busiest_rows: rows that the busiest rank computes; the others wait for it.
        busiest_experts: experts that it computes them with.
        sent_rows: rows that a rank sends to others, mean of the ranks; as many come.
        busiest_sent_rows: rows that the rank with most traffic in one direction sends or gets.
    """

    tokens: float
    rows: float
    busiest_rows: float
    busiest_experts: int
    sent_rows: float
    busiest_sent_rows: float


@dataclass(frozen=True)
class Work:
    """What a rank does; FLOPs are those of one forward pass.

    Attributes:
        dense_flops: of a micro-batch, everything outside the routed experts; matrix products alone.
        sublayers: attention and dense feed-forward networks that a micro-batch passes.
        flops_per_row: of an expert.
        blocks: stratified blocks; all do the same work, since both sides of a full micro-batch are as long.
        strata: of each block.
        row_bytes: bytes of a row.
        itemsize: bytes of a weight or activation.
        dense_parameters: parameters that all ranks hold.
        expert_parameters: parameters of the experts on one rank.
        padded_tokens: tokens of a micro-batch, both sides, padding included.
        tokens: the same without padding.
        micro_batches: of a step, over all ranks.
    """

    dense_flops: float
    sublayers: int
    flops_per_row: float
    blocks: int
    strata: tuple[StratumWork, ...]
    row_bytes: int
    itemsize: int
    dense_parameters: int
    expert_parameters: int
    padded_tokens: float
    tokens: float
    micro_batches: int

    @property
    def exchanged_bytes(self) -> float:
        """Bytes a rank sends in one micro-batch, forward and backward, all blocks; mean of the ranks."""
        return 4 * self.blocks * sum(stratum.sent_rows for stratum in self.strata) * self.row_bytes


def work_of(
    run: RunConfig,
    parameters: Mapping[str, int],
    vocab_size: int,
    *,
    padded_share: float = 1.0,
    real_share: float = 1.0,
    requested_capacity: float | None = None,
) -> Work:
    """The work of a run.

    Args:
        run: checked configuration.
        parameters: of the whole model by kind, see :class:`smoe_ds.planning.plan.Plan`.
        vocab_size: V.
        padded_share: tokens of a micro-batch, padding included, over ``smoe.data.max_tokens``.
        real_share: tokens of a micro-batch that are no padding, over all of it.
        requested_capacity: mean strata per token where it was measured; None: as expected of uniform routing. The
            strata after the first are then entered by as many tokens more or less.
    """
    moe, model = run.smoe.moe, run.smoe.model
    padded = tokens_per_side(run) * padded_share
    experts = parameters.get("experts", 0)
    itemsize = ITEMSIZE[run.precision]
    return Work(
        dense_flops=padded * dense_flops_per_token(run, vocab_size),
        sublayers=2 * model.encoder_layers + 3 * model.decoder_layers - sum(moe_blocks(run)),
        flops_per_row=2 * _ffn_matrices(run) * model.d_model * model.d_ffn,
        blocks=sum(moe_blocks(run)),
        strata=() if moe.is_dense else _strata(run, padded * real_share, requested_capacity),
        row_bytes=model.d_model * itemsize,
        itemsize=itemsize,
        dense_parameters=sum(count for kind, count in parameters.items() if kind not in ("experts", "total")),
        expert_parameters=experts // moe.ep_size,
        padded_tokens=2 * padded,
        tokens=2 * padded * real_share,
        micro_batches=run.train_batch_size,
    )


def tokens_per_side(run: RunConfig) -> float:
    """Tokens of a full micro-batch on each side: half of the budget, which counts source and target."""
    return run.smoe.data.max_tokens / 2


def moe_blocks(run: RunConfig) -> tuple[int, int]:
    """Blocks with experts in encoder and decoder."""
    model, moe = run.smoe.model, run.smoe.moe
    return (0, 0) if moe.is_dense else (model.encoder_layers // moe.every, model.decoder_layers // moe.every)


def dense_flops_per_token(run: RunConfig, vocab_size: int) -> float:
    """FLOPs of a forward pass outside the routed experts, per token of a side; matrix products, no attention scores."""
    model, moe = run.smoe.model, run.smoe.moe
    attention = (4 * model.encoder_layers + 8 * model.decoder_layers) * model.d_model**2
    shared = moe.shared_expert != "none" and not moe.is_dense
    ffns = model.encoder_layers + model.decoder_layers - (0 if shared else sum(moe_blocks(run)))
    return 2.0 * (attention + ffns * _ffn_matrices(run) * model.d_model * model.d_ffn + vocab_size * model.d_model)


def _ffn_matrices(run: RunConfig) -> int:
    return 3 if run.smoe.model.activation == "swiglu" else 2


def _strata(run: RunConfig, tokens: float, requested_capacity: float | None) -> tuple[StratumWork, ...]:
    moe = run.smoe.moe
    shares = stratum_shares(moe.strata, stacked=moe.stacked)
    if requested_capacity is not None and len(shares) > 1:
        later = (requested_capacity - 1) / (sum(shares) - 1)
        shares = [1.0, *(share * later for share in shares[1:])]
    placement = Placement(tuple(moe.strata), moe.ep_size, moe.stacked)
    return tuple(_stratum(placement, i, tokens * share, moe.top_k) for i, share in enumerate(shares))


def _stratum(placement: Placement, stratum: int, tokens: float, top_k: int) -> StratumWork:
    visible, ranks = len(placement.visible_experts(stratum)), range(placement.ep_size)
    local = [len(placement.local_experts(rank, stratum)) for rank in ranks]
    rows = tokens * top_k
    others = placement.ep_size - 1
    sent = [rows * (visible - own) / visible for own in local]
    received = [others * rows * own / visible for own in local]
    return StratumWork(
        tokens=tokens,
        rows=rows,
        busiest_rows=placement.ep_size * rows * max(local) / visible,
        busiest_experts=max(local),
        sent_rows=sum(sent) / len(sent),
        busiest_sent_rows=max(*sent, *received),
    )
