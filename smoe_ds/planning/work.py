"""What a rank has to do in one step, in FLOPs, rows, bytes and elements: numbers of the run alone, no device in them.

The modules tell their own costs (:mod:`smoe_ds.model.transformer_cost`, :mod:`smoe_ds.moe.block_cost`); here they are
those of a run. All of it holds for full micro-batches and uniform routing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from smoe_ds.config.run import RunConfig
from smoe_ds.model.transformer_cost import MicroBatch, TransformerCost, transformer
from smoe_ds.moe.cost import Storage, feed_forward
from smoe_ds.moe.loads import StratumLoad, stratum_loads
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
OUTSIDE_EXPERTS = ("embedding", "attention", "feed_forward", "shared_experts")
"""Kinds whose matrix products make up the dense part of a model. Gates are in none of the sums, as in the paper, of
whose models they are below 1 in 1,000; a step's time counts them with the rows that they touch."""


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
        forwards: forward passes per backward pass: 2 with activation checkpointing.
    """

    dense_flops: float
    sublayers: int
    flops_per_row: float
    blocks: int
    strata: tuple[StratumLoad, ...]
    row_bytes: int
    itemsize: int
    dense_parameters: int
    expert_parameters: int
    padded_tokens: float
    tokens: float
    micro_batches: int
    forwards: int = 1

    @property
    def exchanged_bytes(self) -> float:
        """Bytes a rank sends in one micro-batch, forward and backward, all blocks; mean of the ranks."""
        return self.blocks * sum(load.exchanged_bytes(self.row_bytes, self.forwards) for load in self.strata)


def work_of(
    run: RunConfig,
    vocab_size: int,
    *,
    padded_share: float = 1.0,
    real_share: float = 1.0,
    requested_capacity: float | None = None,
) -> Work:
    """The work of a run.

    Args:
        run: checked configuration.
        vocab_size: V.
        padded_share: tokens of a micro-batch, padding included, over ``smoe.data.max_tokens``.
        real_share: tokens of a micro-batch that are no padding, over all of it.
        requested_capacity: mean strata per token where it was measured; None: as expected of uniform routing.
    """
    moe, model = run.smoe.moe, run.smoe.model
    padded, itemsize = tokens_per_side(run) * padded_share, ITEMSIZE[run.precision]
    blocks, parameters = sum(moe_blocks(run)), cost_of(run, vocab_size).total.parameters
    loads: tuple[StratumLoad, ...] = ()
    if not moe.is_dense:
        placement = Placement(tuple(moe.strata), moe.ep_size, moe.stacked)
        loads = stratum_loads(placement, padded * real_share, moe.top_k, requested_capacity)
    return Work(
        dense_flops=padded * dense_flops_per_token(run, vocab_size),
        sublayers=2 * model.encoder_layers + 3 * model.decoder_layers - blocks,
        flops_per_row=feed_forward(model.d_model, model.d_ffn, model.activation, 1).flops_of(),
        blocks=blocks,
        strata=loads,
        row_bytes=model.d_model * itemsize,
        itemsize=itemsize,
        dense_parameters=sum(count for kind, count in parameters.items() if kind != "experts"),
        expert_parameters=parameters.get("experts", 0) // moe.ep_size,
        padded_tokens=2 * padded,
        tokens=2 * padded * real_share,
        micro_batches=run.train_batch_size,
        forwards=forward_passes(run),
    )


def cost_of(
    run: RunConfig,
    vocab_size: int,
    *,
    tokens: float | None = None,
    backend: str = "lean",
    on_cuda: bool = True,
    requested_capacity: float | None = None,
) -> TransformerCost:
    """What the run's model costs in one micro-batch of one rank.

    Args:
        run: checked configuration.
        vocab_size: V.
        tokens: of a side; None: of a full micro-batch.
        backend: how experts are computed; only what is saved depends on it.
        on_cuda: whether it runs on a CUDA device, likewise.
        requested_capacity: as in :func:`work_of`.
    """
    model = run.smoe.model
    storage = Storage(ITEMSIZE[run.precision], model.dropout > 0, on_cuda)
    batch = MicroBatch(tokens_per_side(run) if tokens is None else tokens, storage=storage)
    return transformer(
        model,
        run.smoe.moe,
        vocab_size,
        batch,
        backend=backend,
        forwards=forward_passes(run),
        requested_capacity=requested_capacity,
    )


def dense_twin(run: RunConfig) -> RunConfig:
    """The run with a feed-forward network in the place of every block."""
    moe = run.smoe.moe.model_copy(update={"strata": [], "ep_size": 1, "num_experts": None})
    return replace(run, smoe=run.smoe.model_copy(update={"moe": moe}))


def forward_passes(run: RunConfig) -> int:
    """Forward passes per backward pass: activation checkpointing computes each layer a second time."""
    return 2 if run.smoe.train.activation_checkpointing else 1


def tokens_per_side(run: RunConfig) -> float:
    """Tokens of a full micro-batch on each side: half of the budget, which counts source and target."""
    return run.smoe.data.max_tokens / 2


def moe_blocks(run: RunConfig) -> tuple[int, int]:
    """Blocks with experts in encoder and decoder."""
    model, moe = run.smoe.model, run.smoe.moe
    return (0, 0) if moe.is_dense else (model.encoder_layers // moe.every, model.decoder_layers // moe.every)


def dense_flops_per_token(run: RunConfig, vocab_size: int) -> float:
    """FLOPs of a forward pass outside the routed experts, per token of a side; matrix products, no attention scores."""
    return cost_of(run, vocab_size, tokens=1).total.flops_of(*OUTSIDE_EXPERTS)
