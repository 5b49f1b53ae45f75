"""What a rank has to do in one step, in FLOPs, rows, bytes and elements: numbers of the run alone, no device in them.

The modules tell their own costs (:mod:`smoe_ds.model.transformer_cost`, :mod:`smoe_ds.moe.block_cost`); here they are
those of a run. All of it holds for full micro-batches and uniform routing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.run import RunConfig
from smoe_ds.errors import ConfigError
from smoe_ds.model.transformer_cost import MicroBatch, TransformerCost, block_sizes, transformer
from smoe_ds.moe.cost import FP32, Storage
from smoe_ds.moe.loads import StratumLoad, block_loads

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
        dense_flops: of a micro-batch, everything but the rows of the routed experts; matrix products alone.
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
        passes: times that each micro-batch is computed, see :func:`training_passes`.
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
    passes: int = 1

    @property
    def exchanged_bytes(self) -> float:
        """Bytes a rank sends in one micro-batch, forward and backward, all blocks; mean of the ranks."""
        once = sum(load.exchanged_bytes(self.row_bytes, self.forwards) for load in self.strata)
        return self.passes * self.blocks * once


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

    Raises:
        ConfigError: blocks of one run differ, or the experts of a block.
    """
    moe, model = run.smoe.moe, run.smoe.model
    padded, itemsize = tokens_per_side(run) * padded_share, ITEMSIZE[run.precision]
    cost, alike = cost_of(run, vocab_size).total, block_of(run)
    parameters = cost.parameters
    blocks = len(moe.blocks(model))
    loads: tuple[StratumLoad, ...] = ()
    width = model.d_model
    if alike is not None:
        width = block_sizes(model, alike).inner.d_model
        loads = block_loads(alike, moe.ep_size, padded * real_share, requested_capacity)
    return Work(
        dense_flops=padded * dense_flops_per_token(run, vocab_size) + cost.flops_of("expert_weights"),
        sublayers=2 * model.encoder_layers + 3 * model.decoder_layers - blocks,
        flops_per_row=0.0 if alike is None else flops_per_row(run, alike),
        blocks=blocks,
        strata=loads,
        row_bytes=width * itemsize,
        itemsize=itemsize,
        dense_parameters=sum(count for kind, count in parameters.items() if kind != "experts"),
        expert_parameters=expert_parameters(run),
        padded_tokens=2 * padded,
        tokens=2 * padded * real_share,
        micro_batches=run.train_batch_size,
        forwards=forward_passes(run),
        passes=training_passes(run),
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
    """What the run's model costs in one micro-batch of one rank, computed once.

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
    return replace(run, smoe=run.smoe.model_copy(update={"moe": MoeConfig(strata=[])}))


def expert_parameters(run: RunConfig) -> int:
    """Parameters of the experts on one rank, that with most of them."""
    moe, model = run.smoe.moe, run.smoe.model
    sizes = [block_sizes(model, block, moe.ep_size) for block in moe.blocks(model).values()]
    return max(sum(block.parameters_on(rank) for block in sizes) for rank in range(moe.ep_size))


def forward_passes(run: RunConfig) -> int:
    """Forward passes per backward pass: activation checkpointing computes each layer a second time."""
    return 2 if run.smoe.train.activation_checkpointing else 1


def training_passes(run: RunConfig) -> int:
    """Times that training computes a micro-batch before the backward pass: twice with a consistency loss."""
    return 2 if run.smoe.moe.consistency_weight(run.smoe.model) else 1


def tokens_per_side(run: RunConfig) -> float:
    """Tokens of a full micro-batch on each side: half of the budget, which counts source and target."""
    return run.smoe.data.max_tokens / 2


def block_of(run: RunConfig) -> BlockSettings | None:
    """The settings that all blocks of a run have; None in a dense model.

    Raises:
        ConfigError: blocks differ, or the experts of a block.
    """
    blocks = list(run.smoe.moe.blocks(run.smoe.model).values())
    if any(block != blocks[0] for block in blocks):
        raise ConfigError(
            f"{run.source}: smoe.moe.layers makes blocks differ; the time of a step is predicted for equal blocks only"
        )
    if blocks and blocks[0].uneven:
        raise ConfigError(
            f"{run.source}: smoe.moe.expert_widths makes experts differ; the time of a step is predicted for equal "
            "experts only"
        )
    return blocks[0] if blocks else None


def flops_per_row(run: RunConfig, block: BlockSettings) -> float:
    """FLOPs of a forward pass of one row through its expert."""
    row = StratumLoad(1.0, 1.0, 1.0, 1, 0.0, 0.0)
    experts = block_sizes(run.smoe.model, block).inner.experts
    return experts.rows(row, experts.d_ffn, FP32).flops_of()


def expert_weight_flops(run: RunConfig, vocab_size: int) -> float:
    """FLOPs of making the experts' weights of others, shared out among the tokens of a side of a full micro-batch."""
    return cost_of(run, vocab_size).total.flops_of("expert_weights") / tokens_per_side(run)


def dense_flops_per_token(run: RunConfig, vocab_size: int) -> float:
    """FLOPs of a forward pass outside the routed experts, per token of a side; matrix products, no attention scores."""
    return cost_of(run, vocab_size, tokens=1).total.flops_of(*OUTSIDE_EXPERTS)
