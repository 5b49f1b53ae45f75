"""What a run will cost, before it starts: parameters, FLOPs, exchange, memory; on the meta device, in seconds.

What a module costs it says itself (:mod:`smoe_ds.model.transformer_cost`); a plan adds it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from smoe_ds.config.run import RunConfig
from smoe_ds.model.parameter_kinds import kind_of
from smoe_ds.moe.cost import KINDS
from smoe_ds.moe.expert_backends import Accelerator
from smoe_ds.moe.loads import (
    IMBALANCE_LIMIT,
    better_ep_sizes,
    ffns_per_token,
    placement_imbalance,
    stratum_imbalances,
    stratum_shares,
)
from smoe_ds.moe.placement import Placement
from smoe_ds.planning.backend import planned_backend
from smoe_ds.planning.memory import planned_memory
from smoe_ds.planning.paper_tables import DENSE_FLOPS, SIZES, VOCAB_SIZE, paper_flops
from smoe_ds.planning.work import (
    OUTSIDE_EXPERTS,
    cost_of,
    dense_twin,
    expert_parameters,
    expert_weight_flops,
    training_passes,
)
from smoe_ds.run.requested_capacity import measured_requested_capacity

if TYPE_CHECKING:
    from torch.nn import Parameter

    from smoe_ds.model.transformer import Transformer


@dataclass(frozen=True)
class Plan:
    """The figures of a run. Bytes are bytes, FLOPs those of one forward pass.

    Attributes:
        vocab_size: V that was used.
        world_size: ranks that were assumed.
        parameters: exact counts of the whole model by kind, and their ``total``.
        parameters_per_device: exact count on one rank, that with most.
        trainable_parameters: of the whole model, without those that ``smoe.train.freeze`` names.
        paper_parameters: counted as in the paper's tables (matrices only); None for shapes they do not have: encoder
            and decoder of unequal depth, experts elsewhere than in every second layer, SwiGLU.
        expected_requested_capacity: mean strata per token and block, uniform routing.
        measured_requested_capacity: what a run's log says; None if no run was given.
        ffns_per_token: feed-forward networks a token visits in a block.
        flops_per_token: at uniform routing, as in training.
        training_passes: times that training computes each micro-batch before a backward pass; FLOPs are of one.
        measured_flops_per_token: at the measured requested capacity.
        dense_flops: what the two counts start from: ``published``, or ``own`` (matrix products of the dense twin
            without attention scores).
        tokens_per_stratum: expected share of a block's tokens that enter each stratum, mean of the blocks.
        placement: expected imbalance of each stratum, and their mean weighted by tokens.
        exchange_bytes_per_step: bytes one rank sends in one optimizer step, forward and backward, all blocks.
        memory: bytes on one device by kind, and the ``total`` at its peak: kinds of the backward pass (activations,
            exchange buffers, reduction) and of the update are not there at the same time.
        host_memory: bytes on the host per rank by kind, and their ``total``: optimizer offload, and frozen weights that
            half precision keeps exact; empty without either.
        expert_backend: how the memory takes experts to be computed; ``none`` in a dense model.
        warnings: what should be changed.
    """

    vocab_size: int
    world_size: int
    parameters: dict[str, int]
    parameters_per_device: int
    trainable_parameters: int
    paper_parameters: int | None
    expected_requested_capacity: float
    measured_requested_capacity: float | None
    ffns_per_token: float
    flops_per_token: int
    training_passes: int
    measured_flops_per_token: int | None
    dense_flops: str
    tokens_per_stratum: list[float]
    placement: dict[str, Any]
    exchange_bytes_per_step: int
    memory: dict[str, int]
    host_memory: dict[str, int]
    expert_backend: str
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def make_plan(
    run: RunConfig,
    *,
    vocab_size: int = VOCAB_SIZE,
    world_size: int | None = None,
    run_folder: Path | None = None,
    accelerator: Accelerator | None = None,
) -> Plan:
    """The plan of a run.

    Args:
        run: checked configuration.
        vocab_size: V.
        world_size: ranks; default the run's ``ep_size``.
        run_folder: what names trained weights, see :func:`smoe_ds.run.requested_capacity.measured_requested_capacity`.
        accelerator: what it will run on, which decides how experts are computed; default: that of the shipped engine
            for the precision, see :func:`smoe_ds.planning.backend.assumed_accelerator`.

    Raises:
        CheckpointError: there is no log of their requested capacity.
        ConfigError: ``smoe.moe.expert_backend`` cannot work on the accelerator, or ``smoe.train.freeze`` not in this
            model.
    """
    from smoe_ds.model.freezing import check_freeze

    moe = run.smoe.moe
    ranks = world_size or (1 if moe.is_dense else moe.ep_size)
    named, frozen_names = dict(_meta_model(run, vocab_size).named_parameters()), check_freeze(run)
    kinds = _parameters_by_kind(named)
    frozen = _parameters_by_kind({name: named[name] for name in frozen_names})
    dense, experts = sum(kinds.values()) - kinds["experts"], expert_parameters(run)
    measured = None if run_folder is None else measured_requested_capacity(run_folder)
    backend = "none" if moe.is_dense else planned_backend(run, accelerator)
    cost = cost_of(run, vocab_size, backend=backend, on_cuda=accelerator is None or accelerator.kind == "cuda")
    frozen_experts = round(experts * frozen["experts"] / max(kinds["experts"], 1))
    frozen_dense = sum(frozen.values()) - frozen["experts"]
    device, host = planned_memory(
        run,
        cost,
        dense - frozen_dense,
        experts - frozen_experts,
        ranks,
        frozen=frozen_dense + frozen_experts,
        largest=max(parameter.numel() for name, parameter in named.items() if name not in frozen_names),
    )
    blocks = list(moe.blocks(run.smoe.model).values())
    shares = [stratum_shares(block.strata, stacked=block.stacked) for block in blocks]
    published = _published_flops(run, vocab_size)
    micro_batches = max(run.train_batch_size / ranks, 1)
    return Plan(
        vocab_size=vocab_size,
        world_size=ranks,
        parameters={**kinds, "total": sum(kinds.values())},
        parameters_per_device=dense + experts,
        trainable_parameters=sum(kinds.values()) - sum(frozen.values()),
        paper_parameters=cost.total.matrices if _is_of_the_paper(run) else None,
        expected_requested_capacity=mean(map(sum, shares)) if shares else 0.0,
        measured_requested_capacity=measured,
        ffns_per_token=mean(map(ffns_per_token, blocks)) if blocks else 1.0,
        flops_per_token=round(_flops(run, vocab_size, published)),
        training_passes=training_passes(run),
        measured_flops_per_token=None if measured is None else round(_flops(run, vocab_size, published, measured)),
        dense_flops="own" if published is None else "published",
        tokens_per_stratum=[mean(column) for column in zip_longest(*shares, fillvalue=0.0)],
        placement=_placement(run),
        exchange_bytes_per_step=round(training_passes(run) * cost.total.exchanged_bytes * micro_batches),
        memory=device,
        host_memory=host,
        expert_backend=backend,
        warnings=placement_warnings(run),
    )


def placement_warnings(run: RunConfig) -> list[str]:
    """The better ``ep_size`` where the experts are spread unevenly."""
    ep_size, warnings = run.smoe.moe.ep_size, []
    for placement in dict.fromkeys(_placements(run)):
        imbalance = placement_imbalance(placement)
        if imbalance > IMBALANCE_LIMIT:
            warnings.append(
                f"smoe.moe.ep_size {ep_size}: the busiest rank gets {imbalance:.2f} times the mean rows of its strata, "
                f"so the others wait; ep_size {better_ep_sizes(placement)[0]} spreads {list(placement.strata)} evenly"
            )
    return warnings


def _placements(run: RunConfig) -> list[Placement]:
    """Where the experts of each block lie."""
    moe = run.smoe.moe
    blocks = moe.blocks(run.smoe.model).values()
    return [Placement(tuple(block.strata), moe.ep_size, block.stacked) for block in blocks]


def _placement(run: RunConfig) -> dict[str, Any]:
    """How evenly the experts lie on the ranks."""
    placements = _placements(run)
    per_stratum = [mean(column) for column in zip_longest(*map(stratum_imbalances, placements), fillvalue=1.0)]
    imbalance = mean(map(placement_imbalance, placements)) if placements else 1.0
    return {"ep_size": run.smoe.moe.ep_size, "per_stratum": per_stratum, "mean": imbalance}


def _meta_model(run: RunConfig, vocab_size: int) -> Transformer:
    import torch

    from smoe_ds.model.transformer import Transformer

    with torch.device("meta"):
        return Transformer(run.smoe.model, run.smoe.moe, vocab_size)


def _parameters_by_kind(named: Mapping[str, Parameter]) -> dict[str, int]:
    kinds = dict.fromkeys(KINDS, 0)
    for name, parameter in named.items():
        kinds[kind_of(name)] += parameter.numel()
    return kinds


def _is_of_the_paper(run: RunConfig) -> bool:
    """Whether the paper's tables have models of this shape."""
    model, moe = run.smoe.model, run.smoe.moe
    every_second = moe.is_dense or (moe.every == 2 and not moe.layers)
    even = model.decoder_layers == model.encoder_layers and every_second
    return even and model.activation != "swiglu" and not model.language_capacity.languages


def _flops(run: RunConfig, vocab_size: int, published: float | None, requested_capacity: float | None = None) -> float:
    """FLOPs per token, starting from those published of the dense model if there are any."""
    cost = cost_of(run, vocab_size, tokens=1, requested_capacity=requested_capacity).total
    making = expert_weight_flops(run, vocab_size)
    if published is None:
        return cost.flops_of(*OUTSIDE_EXPERTS, "experts") + making
    return paper_flops(published, cost, cost_of(dense_twin(run), vocab_size, tokens=1).total) + making


def _published_flops(run: RunConfig, vocab_size: int) -> float | None:
    """FLOPs per token of the dense model as published; None for shapes that the paper does not have."""
    model = run.smoe.model
    layers = (model.encoder_layers, model.decoder_layers)
    for name, sizes in SIZES.items():
        plain = model.activation != "swiglu" and not model.language_capacity.languages
        published = sizes == (model.d_model, model.d_ffn) and layers == (6, 6) and plain
        if published and vocab_size == VOCAB_SIZE:
            return DENSE_FLOPS[name]
    return None
