"""The memory of one device and of its host, by kind: what stays between steps, and what comes on top at the peak."""

from __future__ import annotations

from smoe_ds.config.run import RunConfig
from smoe_ds.engine.fragments import exact_bytes
from smoe_ds.model.transformer_cost import TransformerCost
from smoe_ds.planning.work import ITEMSIZE, tokens_per_side, training_passes

CONSISTENCY_TENSORS = 6
"""Tensors [T, V] in float32 that the consistency loss keeps: of both passes log-probabilities and probabilities, and
their differences."""
DEFAULT_BUCKET = 500_000_000
"""DeepSpeed's ``reduce_bucket_size`` where the run names none [elements]."""


def planned_memory(
    run: RunConfig, cost: TransformerCost, dense: int, experts: int, ranks: int, *, frozen: int, largest: int
) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes on one device and on the host by kind.

    ZeRO 1 and 2 keep an fp32 copy and Adam's moments of a 1/n share of each group, n ranks of which hold the same
    parameters: all for dense ones, ranks / ep_size for experts. ZeRO 2 keeps that share of the gradients only. The
    total is that of the backward pass or of the update, whichever needs more beside what is always there.

    With offload the fp32 copy, the moments and fp32 gradients of the share lie on the host; ZeRO 2 accumulates there
    too. On both sides stands a buffer for the largest parameter on its way, on the host one for the updated weights.

    In half precision the host also has fp32 copies of frozen parameters, with offload and without.

    Args:
        run: checked configuration.
        cost: of its model in a full micro-batch, see :func:`smoe_ds.planning.work.cost_of`.
        dense: trained parameters that all ranks hold.
        experts: trained parameters of the experts on one rank.
        ranks: of the run.
        frozen: parameters on one rank that are not trained: neither gradients nor moments.
        largest: elements of the largest parameter that is trained.

    Returns:
        Device and host; the latter is empty where nothing is kept on the host of a GPU.
    """
    itemsize, stage, whole = ITEMSIZE[run.precision], run.zero_stage, dense + experts
    share = dense / ranks + experts / max(ranks // run.smoe.moe.ep_size, 1) if stage else whole
    masters = share if stage or itemsize == 2 else 0
    states = {"master_weights": round(4 * masters), "optimizer": round(8 * share)}
    offload = run.deepspeed["zero_optimization"].get("offload_optimizer") or {}
    offloaded = offload.get("device", "none") != "none"
    copies = itemsize * largest
    held = {
        "weights": itemsize * (whole + frozen),
        "gradients": 0 if offloaded and stage == 2 else round(itemsize * (share if stage == 2 else whole)),
        **({"copies": copies} if offloaded else states),
    }
    backward = {
        "activations": round(_activations(run, cost)),
        "exchange_buffers": round(max(layer.temporary_bytes for layer in cost.layers)),
        "reduction": round(cost.embedding.temporary_bytes) + _reduction_buckets(run, whole),
    }
    update = 0 if offloaded else _update(run, share)
    device = {**held, **backward, "update": update}
    device["total"] = sum(held.values()) + max(sum(backward.values()), update)
    host = _offloaded(run, states, share, copies, ranks) if offloaded else {}
    if frozen and itemsize == 2:
        host["frozen_weights"] = exact_bytes(frozen)
    return device, {**host, "total": sum(host.values())} if host else {}


def _activations(run: RunConfig, cost: TransformerCost) -> float:
    """What the backward pass finds: of one pass, or of two and of the loss between them."""
    once = cost.saved_bytes(checkpointing=run.smoe.train.activation_checkpointing)
    if training_passes(run) == 1:
        return once
    vocab_size = cost.embedding.matrices / run.smoe.model.d_model
    return 2 * once + CONSISTENCY_TENSORS * 4 * tokens_per_side(run) * vocab_size


def _offloaded(run: RunConfig, states: dict[str, int], share: float, copies: int, ranks: int) -> dict[str, int]:
    """What offload keeps on the host, of the share that a rank updates."""
    itemsize = ITEMSIZE[run.precision]
    accumulates = run.zero_stage == 2 and run.train_batch_size > ranks
    return {
        **states,
        "gradients": round((4 + (itemsize if accumulates else 0)) * share),
        "copies": round(itemsize * share) + copies,
        "update": round(4 * share) if run.deepspeed["optimizer"]["params"].get("torch_adam") else 0,
    }


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
