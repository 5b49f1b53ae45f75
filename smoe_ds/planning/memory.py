"""The memory of one device and of its host, by kind: what stays between steps, and what comes on top at the peak."""

from __future__ import annotations

from smoe_ds.config.run import RunConfig
from smoe_ds.moe.accounting import expected_strata
from smoe_ds.planning.work import ITEMSIZE, moe_blocks, tokens_per_side

_LEAN_INNER = {"relu": 1, "gelu": 1, "swiglu": 2}
"""Inner tensors of width F that an expert keeps when it is computed the lean way."""
DEFAULT_BUCKET = 500_000_000
"""DeepSpeed's ``reduce_bucket_size`` where the run names none [elements]."""


def planned_memory(
    run: RunConfig, dense: int, experts: int, vocab_size: int, ranks: int
) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes on one device and on the host by kind; parameters are those of one rank.

    ZeRO 1 and 2 keep an fp32 copy and Adam's moments of a 1/n share of each group, n ranks of which hold the same
    parameters: all for dense ones, ranks / ep_size for experts. ZeRO 2 keeps that share of the gradients only. The
    total is that of the backward pass or of the update, whichever needs more beside what is always there.

    With offload the fp32 copy, the moments and fp32 gradients of the share lie on the host; ZeRO 2 accumulates there
    too. On both sides stands a buffer for the largest parameter on its way, on the host one for the updated weights.
    """
    itemsize, stage, ep_size = ITEMSIZE[run.precision], run.zero_stage, run.smoe.moe.ep_size
    whole = dense + experts
    share = dense / ranks + experts / max(ranks // ep_size, 1) if stage else whole
    masters = share if stage or itemsize == 2 else 0
    states = {"master_weights": round(4 * masters), "optimizer": round(8 * share)}
    offload = run.deepspeed["zero_optimization"].get("offload_optimizer") or {}
    offloaded = offload.get("device", "none") != "none"
    copied = itemsize * max(vocab_size, run.smoe.model.d_ffn) * run.smoe.model.d_model if offloaded else 0
    device = {
        "weights": itemsize * whole,
        "gradients": 0 if offloaded and stage == 2 else round(itemsize * (share if stage == 2 else whole)),
        **({"copies": copied} if offloaded else states),
    }
    backward = {
        "activations": round(saved_activations(run, vocab_size)),
        "exchange_buffers": round(_exchange_buffers(run)),
        # The shared embedding's gradient is a sum of dense ones, two of which are there beside it.
        "reduction": 2 * itemsize * vocab_size * run.smoe.model.d_model + _reduction_buckets(run, whole),
    }
    update = {"update": 0 if offloaded else _update(run, share)}
    total = sum(device.values()) + max(sum(backward.values()), sum(update.values()))
    host = {}
    if offloaded:
        accumulates = stage == 2 and run.train_batch_size > ranks
        gradients = round((4 + (itemsize if accumulates else 0)) * share)
        roots = round(4 * share) if run.deepspeed["optimizer"]["params"].get("torch_adam") else 0
        host = {**states, "gradients": gradients, "copies": round(itemsize * share) + copied, "update": roots}
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
    model, tokens, itemsize = run.smoe.model, tokens_per_side(run), ITEMSIZE[run.precision]
    logits = tokens * vocab_size * (itemsize + 4)  # the logits and their log-softmax in fp32
    layer_inputs = 2 * tokens * model.d_model * itemsize
    if run.smoe.train.activation_checkpointing:
        biggest = max(_attention_bytes(run) * 2 + _block_bytes(run), _attention_bytes(run) * 2 + _ffn_bytes(run))
        return logits + layer_inputs * max(model.encoder_layers, model.decoder_layers) + biggest
    blocks = sum(moe_blocks(run))
    layers = model.encoder_layers + model.decoder_layers
    attentions = model.encoder_layers + 2 * model.decoder_layers
    per_layer = attentions * _attention_bytes(run) + blocks * _block_bytes(run) + (layers - blocks) * _ffn_bytes(run)
    return logits + layer_inputs + per_layer


def _attention_bytes(run: RunConfig) -> float:
    """LayerNorm's input and output, queries, keys, values, the heads' output, and the dropout mask of the sum."""
    model = run.smoe.model
    return tokens_per_side(run) * model.d_model * (6 * ITEMSIZE[run.precision] + _mask(run))


def _ffn_bytes(run: RunConfig) -> float:
    """LayerNorm's input and output, the inner activations, and the dropout mask."""
    model = run.smoe.model
    itemsize = ITEMSIZE[run.precision]
    return tokens_per_side(run) * (model.d_model * (2 * itemsize + _mask(run)) + _inner(run) * model.d_ffn * itemsize)


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
    return tokens_per_side(run) * expected_strata(moe.strata, stacked=moe.stacked) * per_pass + shared


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
    return 2 * tokens_per_side(run) * moe.top_k * (1 - 1 / moe.ep_size) * model.d_model * ITEMSIZE[run.precision]
