"""What a run will cost, before it starts: parameters, FLOPs, exchange, memory; on the meta device, in seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.analysis.paper_tables import DENSE_FLOPS, SIZES, VOCAB_SIZE
from smoe_ds.config.run import RunConfig
from smoe_ds.errors import CheckpointError
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

if TYPE_CHECKING:
    from smoe_ds.model.transformer import Transformer

ITEMSIZE = {"fp32": 4, "fp16": 2, "bf16": 2}
_LEAN_INNER = {"relu": 1, "gelu": 1, "swiglu": 2}
"""Inner tensors of width F that an expert keeps when it is computed the lean way."""
DEFAULT_BUCKET = 500_000_000
"""DeepSpeed's ``reduce_bucket_size`` where the run names none [elements]."""


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
        run_folder: a run whose log has the requested capacity that was measured.

    Raises:
        CheckpointError: the run folder has no such log.
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
    device, host = _memory(run, dense, experts, vocab_size, ranks)
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


def measured_requested_capacity(run_folder: Path) -> float:
    """Mean requested capacity over a run's blocks, as last logged.

    Raises:
        CheckpointError: the folder has no TensorBoard log with requested capacities.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run_folder / "tensorboard"
    values = []
    if folder.is_dir():
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("moe_requested_capacity/")]
        values = [events.Scalars(tag)[-1].value for tag in tags]
    if not values:
        raise CheckpointError(f"{run_folder}: has no log of requested capacities; name the output_dir of an MoE run")
    return float(sum(values) / len(values))


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


def _blocks(run: RunConfig) -> tuple[int, int]:
    """Blocks with experts in encoder and decoder."""
    model, moe = run.smoe.model, run.smoe.moe
    return (0, 0) if moe.is_dense else (model.encoder_layers // moe.every, model.decoder_layers // moe.every)


def _ffns(run: RunConfig, requested_capacity: float) -> float:
    moe = run.smoe.moe
    return 1.0 if moe.is_dense else moe.top_k * requested_capacity + (moe.shared_expert != "none")


def _extra_flops(run: RunConfig, requested_capacity: float) -> float:
    model = run.smoe.model
    matrices = 1.5 if model.activation == "swiglu" else 1.0
    ffns = _ffns(run, requested_capacity)
    return matrices * extra_flops_per_token(model.d_model, model.d_ffn, ffns, sum(_blocks(run)))


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


def _tokens(run: RunConfig) -> float:
    """Tokens of a micro-batch on each side: half of the budget, which counts source and target."""
    return run.smoe.data.max_tokens / 2


def _exchange(run: RunConfig, ranks: int) -> float:
    moe, model = run.smoe.moe, run.smoe.model
    if moe.is_dense or moe.ep_size == 1:
        return 0.0
    per_block = exchanged_bytes(
        moe.strata,
        moe.ep_size,
        _tokens(run),
        model.d_model,
        moe.top_k,
        ITEMSIZE[run.precision],
        stacked=moe.stacked,
    )
    again = 1.5 if run.smoe.train.activation_checkpointing else 1.0  # the forward exchanges happen twice
    return per_block * again * sum(_blocks(run)) * max(run.train_batch_size / ranks, 1)


def _memory(
    run: RunConfig, dense: int, experts: int, vocab_size: int, ranks: int
) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes on one device and on the host by kind; parameters are those of one rank.

    ZeRO 1 and 2 keep an fp32 copy and Adam's moments of a 1/n share of each group, n ranks of which hold the same
    parameters: all for dense ones, ranks / ep_size for experts. ZeRO 2 keeps that share of the gradients only. The
    total is that of the backward pass or of the update, whichever needs more beside what is always there.
    """
    itemsize, stage, ep_size = ITEMSIZE[run.precision], run.zero_stage, run.smoe.moe.ep_size
    whole = dense + experts
    share = dense / ranks + experts / max(ranks // ep_size, 1) if stage else whole
    masters = share if stage or itemsize == 2 else 0
    states = {"master_weights": round(4 * masters), "optimizer": round(8 * share)}
    offload = run.deepspeed["zero_optimization"].get("offload_optimizer") or {}
    offloaded = offload.get("device", "none") != "none"
    device = {
        "weights": itemsize * whole,
        "gradients": round(itemsize * (share if stage == 2 else whole)),
        **({} if offloaded else states),
    }
    backward = {
        "activations": round(saved_activations(run, vocab_size)),
        "exchange_buffers": round(_exchange_buffers(run)),
        # The shared embedding's gradient is a sum of dense ones, two of which are there beside it.
        "reduction": 2 * itemsize * vocab_size * run.smoe.model.d_model + _reduction_buckets(run, whole),
    }
    update = {"update": 0 if offloaded else _update(run, share)}
    total = sum(device.values()) + max(sum(backward.values()), sum(update.values()))
    host = states if offloaded else {}
    return {**device, **backward, **update, "total": total}, {**host, "total": sum(host.values())} if host else {}


def _reduction_buckets(run: RunConfig, parameters: int) -> int:
    """DeepSpeed's buffers of gradients, allocated whole whatever the model's size, and the copy that is reduced."""
    zero = run.deepspeed["zero_optimization"]
    if not run.zero_stage or not zero.get("contiguous_gradients", True):
        return 0
    bucket = int(zero.get("reduce_bucket_size") or DEFAULT_BUCKET)
    buffers = 2 if zero.get("overlap_comm") else 1
    return ITEMSIZE[run.precision] * (buffers * bucket + min(bucket, parameters))


def _update(run: RunConfig, share: float) -> int:
    """Temporary tensors of an update: ZeRO's gradients of the share in fp32, and PyTorch's Adam's square roots."""
    torch_adam = bool(run.deepspeed["optimizer"]["params"].get("torch_adam"))
    return round(4 * share * (bool(run.zero_stage) + torch_adam))


def saved_activations(run: RunConfig, vocab_size: int) -> float:
    """Bytes that the backward pass of one micro-batch finds saved, estimated from the list of tensors.

    Args:
        run: checked configuration; the micro-batch is full, half of its tokens on each side.
        vocab_size: V.
    """
    model, tokens, itemsize = run.smoe.model, _tokens(run), ITEMSIZE[run.precision]
    logits = tokens * vocab_size * (itemsize + 4)  # the logits and their log-softmax in fp32
    layer_inputs = 2 * tokens * model.d_model * itemsize
    if run.smoe.train.activation_checkpointing:
        biggest = max(_attention_bytes(run) * 2 + _block_bytes(run), _attention_bytes(run) * 2 + _ffn_bytes(run))
        return logits + layer_inputs * max(model.encoder_layers, model.decoder_layers) + biggest
    blocks = sum(_blocks(run))
    layers = model.encoder_layers + model.decoder_layers
    attentions = model.encoder_layers + 2 * model.decoder_layers
    per_layer = attentions * _attention_bytes(run) + blocks * _block_bytes(run) + (layers - blocks) * _ffn_bytes(run)
    return logits + layer_inputs + per_layer


def _attention_bytes(run: RunConfig) -> float:
    """LayerNorm's input and output, queries, keys, values, the heads' output, and the dropout mask of the sum."""
    model = run.smoe.model
    return _tokens(run) * model.d_model * (6 * ITEMSIZE[run.precision] + _mask(run))


def _ffn_bytes(run: RunConfig) -> float:
    """LayerNorm's input and output, the inner activations, and the dropout mask."""
    model = run.smoe.model
    itemsize = ITEMSIZE[run.precision]
    return _tokens(run) * (model.d_model * (2 * itemsize + _mask(run)) + _inner(run) * model.d_ffn * itemsize)


def _block_bytes(run: RunConfig) -> float:
    """Per pass LayerNorm's input and output, and for each chosen expert its inner activations; its row and output too
    where the experts are not computed the lean way (:mod:`smoe_ds.moe.lean`)."""
    moe, model = run.smoe.moe, run.smoe.model
    if moe.is_dense:
        return 0.0
    itemsize = ITEMSIZE[run.precision]
    lean = moe.ep_size == 1 and (
        moe.expert_backend == "lean" or (moe.expert_backend == "auto" and run.precision != "bf16")
    )
    rows, inner = (0, _LEAN_INNER[model.activation]) if lean else (2, _inner(run))
    row = model.d_model * (rows * itemsize + _mask(run)) + inner * model.d_ffn * itemsize
    per_pass = 2 * model.d_model * itemsize + moe.top_k * row
    shared = _ffn_bytes(run) if moe.shared_expert != "none" else 0.0
    return _tokens(run) * expected_strata(moe.strata, stacked=moe.stacked) * per_pass + shared


def _inner(run: RunConfig) -> int:
    """Inner tensors of width F that a feed-forward network keeps."""
    return {"relu": 1, "gelu": 2, "swiglu": 4}[run.smoe.model.activation]


def _mask(run: RunConfig) -> float:
    """Bytes per element of a dropout mask."""
    return 1.0 if run.smoe.model.dropout else 0.0


def _exchange_buffers(run: RunConfig) -> float:
    """Rows on their way: what the first stratum sends and receives at once."""
    moe, model = run.smoe.moe, run.smoe.model
    if moe.is_dense or moe.ep_size == 1:
        return 0.0
    return 2 * _tokens(run) * moe.top_k * (1 - 1 / moe.ep_size) * model.d_model * ITEMSIZE[run.precision]
