"""What a run will cost, before it starts: parameters, FLOPs, exchange, memory; on the meta device, in seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.config.run import RunConfig
from smoe_ds.moe.accounting import (
    IMBALANCE_LIMIT,
    better_ep_sizes,
    exchanged_bytes,
    expected_strata,
    extra_flops_per_token,
    paper_parameters,
    placement_imbalance,
    stratum_imbalances,
    stratum_shares,
)
from smoe_ds.planning.memory import planned_memory
from smoe_ds.planning.paper_tables import DENSE_FLOPS, SIZES, VOCAB_SIZE
from smoe_ds.planning.work import ITEMSIZE, moe_blocks, tokens_per_side
from smoe_ds.run.requested_capacity import measured_requested_capacity

if TYPE_CHECKING:
    from smoe_ds.model.transformer import Transformer


@dataclass(frozen=True)
class Plan:
    """The figures of a run. Bytes are bytes, FLOPs those of one forward pass.

    Attributes:
        vocab_size: V that was used.
        world_size: ranks that were assumed.
        parameters: exact counts of the whole model by kind, and their ``total``.
        parameters_per_device: exact count on one rank.
        paper_parameters: counted as in the paper's tables (matrices only); None for shapes they do not have: encoder
            and decoder of unequal depth, experts elsewhere than in every second layer, SwiGLU.
        expected_requested_capacity: mean strata per token and block, uniform routing.
        measured_requested_capacity: what a run's log says; None if no run was given.
        ffns_per_token: feed-forward networks a token visits in a block.
        flops_per_token: at uniform routing.
        measured_flops_per_token: at the measured requested capacity.
        dense_flops: what the two counts start from: ``published``, or ``own`` (matrix products of the dense twin
            without attention scores).
        tokens_per_stratum: expected share of a block's tokens that enter each stratum.
        placement: expected imbalance of each stratum, and their mean weighted by tokens.
        exchange_bytes_per_step: bytes one rank sends in one optimizer step, forward and backward, all blocks.
        memory: bytes on one device by kind, and the ``total`` at its peak: kinds of the backward pass (activations,
            exchange buffers, reduction) and of the update are not there at the same time.
        host_memory: bytes on the host per rank, with optimizer offload.
        warnings: what should be changed.
    """

    vocab_size: int
    world_size: int
    parameters: dict[str, int]
    parameters_per_device: int
    paper_parameters: int | None
    expected_requested_capacity: float
    measured_requested_capacity: float | None
    ffns_per_token: float
    flops_per_token: int
    measured_flops_per_token: int | None
    dense_flops: str
    tokens_per_stratum: list[float]
    placement: dict[str, Any]
    exchange_bytes_per_step: int
    memory: dict[str, int]
    host_memory: dict[str, int]
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def make_plan(
    run: RunConfig, *, vocab_size: int = VOCAB_SIZE, world_size: int | None = None, run_folder: Path | None = None
) -> Plan:
    """The plan of a run.

    Args:
        run: checked configuration.
        vocab_size: V.
        world_size: ranks; default the run's ``ep_size``.
        run_folder: what names trained weights, see :func:`smoe_ds.run.requested_capacity.measured_requested_capacity`.

    Raises:
        CheckpointError: there is no log of their requested capacity.
    """
    moe = run.smoe.moe
    ranks = world_size or (1 if moe.is_dense else moe.ep_size)
    whole = _meta_model(run, vocab_size)
    kinds = _parameters_by_kind(whole)
    dense, experts = sum(kinds.values()) - kinds["experts"], kinds["experts"] // moe.ep_size
    measured = None if run_folder is None else measured_requested_capacity(run_folder)
    expected = expected_strata(moe.strata, stacked=moe.stacked)
    dense_flops, start = _dense_flops(run, vocab_size)
    imbalances = [] if moe.is_dense else stratum_imbalances(moe.strata, moe.ep_size, stacked=moe.stacked)
    device, host = planned_memory(run, dense, experts, vocab_size, ranks)
    return Plan(
        vocab_size=vocab_size,
        world_size=ranks,
        parameters={**kinds, "total": sum(kinds.values())},
        parameters_per_device=dense + experts,
        paper_parameters=_as_the_paper_counts(run, vocab_size),
        expected_requested_capacity=expected,
        measured_requested_capacity=measured,
        ffns_per_token=_ffns(run, expected),
        flops_per_token=round(dense_flops + _extra_flops(run, expected)),
        measured_flops_per_token=None if measured is None else round(dense_flops + _extra_flops(run, measured)),
        dense_flops=start,
        tokens_per_stratum=[] if moe.is_dense else stratum_shares(moe.strata, stacked=moe.stacked),
        placement={
            "ep_size": moe.ep_size,
            "per_stratum": imbalances,
            "mean": 1.0 if moe.is_dense else placement_imbalance(moe.strata, moe.ep_size, stacked=moe.stacked),
        },
        exchange_bytes_per_step=round(_exchange(run, ranks)),
        memory=device,
        host_memory=host,
        warnings=list(placement_warnings(run)),
    )


def placement_warnings(run: RunConfig) -> list[str]:
    """The better ``ep_size`` where the experts are spread unevenly."""
    moe = run.smoe.moe
    if moe.is_dense:
        return []
    imbalance = placement_imbalance(moe.strata, moe.ep_size, stacked=moe.stacked)
    if imbalance <= IMBALANCE_LIMIT:
        return []
    better = better_ep_sizes(moe.strata, moe.ep_size, stacked=moe.stacked)[0]
    return [
        f"smoe.moe.ep_size {moe.ep_size}: the busiest rank gets {imbalance:.2f} times the mean rows of its strata, so "
        f"the others wait; ep_size {better} spreads {moe.strata} evenly"
    ]


def _meta_model(run: RunConfig, vocab_size: int) -> Transformer:
    import torch

    from smoe_ds.model.transformer import Transformer

    with torch.device("meta"):
        return Transformer(run.smoe.model, run.smoe.moe, vocab_size)


def _parameters_by_kind(model: Transformer) -> dict[str, int]:
    kinds = dict.fromkeys(["embedding", "attention", "feed_forward", "experts", "shared_experts", "gates", "norms"], 0)
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        if "experts" in parts:
            kind = "experts"
        elif "gates" in parts or "cmr_gate" in parts:
            kind = "gates"
        elif any("norm" in part for part in parts):
            kind = "norms"
        elif any("attention" in part for part in parts):
            kind = "attention"
        else:
            kind = "embedding" if parts[0] == "embedding" else "shared_experts" if "shared" in parts else "feed_forward"
        kinds[kind] += parameter.numel()
    return kinds


def _as_the_paper_counts(run: RunConfig, vocab_size: int) -> int | None:
    model, moe = run.smoe.model, run.smoe.moe
    layers = model.encoder_layers
    if model.activation == "swiglu" or model.decoder_layers != layers or not (moe.is_dense or moe.every == 2):
        return None
    shared = moe.shared_expert != "none" and not moe.is_dense
    experts = sum(moe.strata) or 1
    return paper_parameters(model.d_model, model.d_ffn, vocab_size, experts, shared_expert=shared, layers=layers)


def _ffns(run: RunConfig, requested_capacity: float) -> float:
    moe = run.smoe.moe
    return 1.0 if moe.is_dense else moe.top_k * requested_capacity + (moe.shared_expert != "none")


def _extra_flops(run: RunConfig, requested_capacity: float) -> float:
    model = run.smoe.model
    matrices = 1.5 if model.activation == "swiglu" else 1.0
    ffns = _ffns(run, requested_capacity)
    return matrices * extra_flops_per_token(model.d_model, model.d_ffn, ffns, sum(moe_blocks(run)))


def _dense_flops(run: RunConfig, vocab_size: int) -> tuple[float, str]:
    """FLOPs per token of the dense twin, and where they come from."""
    model = run.smoe.model
    layers = (model.encoder_layers, model.decoder_layers)
    for name, sizes in SIZES.items():
        published = sizes == (model.d_model, model.d_ffn) and layers == (6, 6) and model.activation != "swiglu"
        if published and vocab_size == VOCAB_SIZE:
            return DENSE_FLOPS[name], "published"
    ffn = (3 if model.activation == "swiglu" else 2) * model.d_model * model.d_ffn
    attention = (4 * layers[0] + 8 * layers[1]) * model.d_model**2
    return 2.0 * (attention + sum(layers) * ffn + vocab_size * model.d_model), "own"


def _exchange(run: RunConfig, ranks: int) -> float:
    moe, model = run.smoe.moe, run.smoe.model
    if moe.is_dense or moe.ep_size == 1:
        return 0.0
    per_block = exchanged_bytes(
        moe.strata,
        moe.ep_size,
        tokens_per_side(run),
        model.d_model,
        moe.top_k,
        ITEMSIZE[run.precision],
        stacked=moe.stacked,
    )
    again = 1.5 if run.smoe.train.activation_checkpointing else 1.0  # the forward exchanges happen twice
    return per_block * again * sum(moe_blocks(run)) * max(run.train_batch_size / ranks, 1)
