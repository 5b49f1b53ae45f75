"""Small real models under real DeepSpeed engines, fed the same global micro-batches on any number of ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from smoe_ds.config import RunConfig
from smoe_ds.config.moe import MoeConfig

MICRO_BATCHES = 4  # per step, over all ranks
VOCAB = 23


@dataclass(frozen=True)
class Setup:
    """How an engine is configured."""

    stage: int = 0
    precision: str = "fp32"
    ep_size: int = 1
    offload: bool = False
    clip: float = 0.0
    gradient_dtype: str | None = None
    zero: tuple[tuple[str, Any], ...] = ()
    strata: tuple[int, ...] = (2, 4)
    weight_decay: float = 0.01
    initial_scale_power: int = 8
    native_adam: bool = False
    freeze: tuple[str, ...] = ()
    expert_lr_factor: float = 1.0
    gate_lr_factor: float = 1.0


def join_gloo() -> None:
    """Hands the process group that the rank has to DeepSpeed, which compiles nothing for it."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)


def engine_of_run(run: RunConfig, vocab_size: int, rank: int, world_size: int) -> Any:
    """The engine of a run, micro-batches shared out over the ranks."""
    from smoe_ds.config import finalize_deepspeed
    from smoe_ds.engine.adapter import build_model
    from smoe_ds.engine.build import build_engine
    from smoe_ds.model.freezing import check_freeze, freeze

    join_gloo()
    model = build_model(run.smoe.model, run.smoe.moe, vocab_size, seed=run.smoe.train.seed, rank=rank)
    freeze(model, check_freeze(run))
    return build_engine(model, finalize_deepspeed(run, world_size, "cpu"))


def moe_config(strata: Sequence[int] = (2, 4), ep_size: int = 1) -> MoeConfig:
    """Nothing is drawn or dropped, and all weights matter from the first step on."""
    return MoeConfig(
        strata=list(strata), ep_size=ep_size, second_expert="argmax", capacity_factor=None, expert_init="xavier"
    )


def make_engine(rank: int, world_size: int, setup: Setup) -> Any:
    """An engine over a two-layer translation model; torch.distributed is initialised already."""
    from smoe_ds.config.model import ModelConfig
    from smoe_ds.config.train import TrainConfig
    from smoe_ds.engine.adapter import build_model
    from smoe_ds.engine.build import build_engine
    from smoe_ds.model.freezing import freeze, is_meant
    from smoe_ds.model.parameter_kinds import lr_factor

    join_gloo()
    sizes = ModelConfig(
        d_model=10, d_ffn=7, num_heads=2, encoder_layers=2, decoder_layers=2, dropout=0.0, attention_dropout=0.0
    )
    moe = moe_config(setup.strata, setup.ep_size)
    model = build_model(sizes, moe, VOCAB, seed=5, rank=rank)
    freeze(model, {name for name, _ in model.named_parameters() if is_meant(name, setup.freeze)})
    train = TrainConfig(output_dir="none", expert_lr_factor=setup.expert_lr_factor, gate_lr_factor=setup.gate_lr_factor)
    return build_engine(model, ds_config(setup, world_size), partial(lr_factor, train=train))


def ds_config(setup: Setup, world_size: int) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": setup.stage, **dict(setup.zero)}
    if setup.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": False}
    config: dict[str, Any] = {
        "train_batch_size": MICRO_BATCHES,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": MICRO_BATCHES // world_size,
        "gradient_clipping": setup.clip,
        "steps_per_print": None,
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": 1e-2, "betas": [0.9, 0.98], "eps": 1e-8, "weight_decay": setup.weight_decay},
        },
        "zero_optimization": zero,
    }
    if setup.native_adam:
        config["optimizer"]["params"]["torch_adam"] = False
    if setup.precision == "fp16":
        config["fp16"] = {"enabled": True, "initial_scale_power": setup.initial_scale_power, "loss_scale_window": 3}
    elif setup.precision == "bf16":
        config["bf16"] = {"enabled": True}
    if setup.gradient_dtype:
        config["data_types"] = {"grad_accum_dtype": setup.gradient_dtype}
    return config


def micro_batch(index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Source, decoder input and target of the global micro-batch `index`."""
    generator = torch.Generator().manual_seed(1000 + index)
    src = torch.randint(4, VOCAB, (2, 5), generator=generator)
    tgt = torch.randint(4, VOCAB, (2, 7), generator=generator)
    return src, tgt[:, :-1], tgt[:, 1:]


def train(engine: Any, rank: int, world_size: int, begin: int, end: int) -> list[float]:
    """Runs steps begin..end-1; the loss of each step over all micro-batches (equal on all ranks)."""
    from smoe_ds.engine.build import set_learning_rate
    from smoe_ds.parallel.agreement import gather_json

    losses = []
    for step in range(begin, end):
        set_learning_rate(engine, 1e-2 / (step + 1))
        mine = []
        for micro_step in range(MICRO_BATCHES // world_size):
            src, tgt_in, tgt_out = micro_batch(step * MICRO_BATCHES + micro_step * world_size + rank)
            logits, *_ = engine(src, tgt_in)
            loss = F.cross_entropy(logits.float().flatten(0, 1), tgt_out.flatten())
            mine.append(float(loss.detach()))
            engine.backward(loss)
            engine.step()
        # in the order of the micro-batches, so that the sum does not depend on the number of ranks
        losses.append(sum(loss for row in zip(*gather_json(mine), strict=True) for loss in row) / MICRO_BATCHES)
    return losses


def full_state(engine: Any) -> dict[str, torch.Tensor]:
    """fp32 weights and moments that this rank owns, plus the model's own parameters as it computes with them."""
    from smoe_ds.engine.state import gather_state, owned_parameters

    shapes = {owned.name: owned.shape for owned in owned_parameters(engine)}
    pieces: dict[tuple[str, str], list[torch.Tensor]] = {}
    for name, key, piece in gather_state(engine):
        pieces.setdefault((name, key), []).append(piece.clone())
    state = {f"{key}/{name}": torch.cat(parts).reshape(shapes[name]) for (name, key), parts in pieces.items()}
    state |= {f"model/{name}": p.detach().float().clone() for name, p in engine.module.named_parameters()}
    return state


def digest(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and bits."""
    total = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        total.update(f"{name}{tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()
