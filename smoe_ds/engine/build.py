"""Builds the DeepSpeed engine of a model: parameter groups in a fixed order, no compiler, right norms."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.engine.expert_groups import expert_group
from smoe_ds.engine.fragments import keep_exact
from smoe_ds.engine.gradients import GradientNormHook
from smoe_ds.engine.native_adam import load_native_adam, uses_native_adam
from smoe_ds.engine.protocol import Engine, Halved, ScalesLoss, Stepped, TrainingState
from smoe_ds.engine.state import persistent_buffers
from smoe_ds.errors import ConfigError
from smoe_ds.parallel.agreement import agree

if TYPE_CHECKING:
    from torch import nn

_ADAM = ("adam", "adamw")
_LR_FACTOR = "lr_factor"
"""Key of a parameter group whose learning rate is another than the step's."""


def build_engine(
    model: nn.Module, ds_config: dict[str, Any], lr_factor: Callable[[str], float] = lambda name: 1.0
) -> Engine:
    """Wraps `model` in a DeepSpeed engine with the optimizer of `ds_config`.

    The engine has no learning-rate scheduler: call `set_learning_rate` before each step. On CPU Adam is torch's unless
    `optimizer.params.torch_adam` is false, so nothing is compiled; with offload from a GPU DeepSpeed's is, at its first
    use. Without ZeRO the gradient norm and clipping are ours (`GradientNormHook`), since DeepSpeed's leave the experts
    out or average them there.

    Args:
        model: module; its experts carry `allreduce = False` and `group_name`. Parameters that need no gradient are
            frozen: the engine holds them without optimizer state, and in half precision an fp32 copy on the host.
        ds_config: DeepSpeed's configuration, complete (batch sizes included). Not modified.
        lr_factor: what the learning rate is multiplied by for a parameter, given its name.

    Returns:
        deepspeed.DeepSpeedEngine, as far as it is used.

    Raises:
        ConfigError: the optimizer is not Adam or AdamW, all parameters are frozen, or the model has persistent buffers
            of floating point, which half precision would round. On all ranks if DeepSpeed's Adam for the host cannot be
            compiled on one. On the ranks that it befalls if a package of a monitor is missing, or the place for a
            monitor's or the profiler's file cannot be written.
    """
    import deepspeed

    _import_muon()
    _check_model(model)
    config = _without_compilation(_checked_optimizer(copy.deepcopy(ds_config)))
    if uses_native_adam(config):
        agree(load_native_adam(), ConfigError, "building the optimizer")
    _allow_fp16_on_every_cpu(config)
    stage = int(config.get("zero_optimization", {}).get("stage", 0))
    clip = float(config.get("gradient_clipping", 1.0))  # DeepSpeed's default
    if stage == 0:
        config["gradient_clipping"] = 0.0  # done by the hook
    if any(config.get(precision, {}).get("enabled") for precision in ("fp16", "bf16")):
        keep_exact(model)
    with _errors_of_a_user():
        _make_profile_folder(config)
        engine, *_ = deepspeed.initialize(
            model=model, model_parameters=parameter_groups(model, lr_factor), config=config, dist_init_required=False
        )
    _let_the_loss_scale_rest_at_its_floor(engine)
    engine.gradient_norm_hook = GradientNormHook(engine, clip) if stage == 0 else None
    if stage == 0:
        _undo_first_step(engine)
    return engine


def _import_muon() -> None:
    """Imports DeepSpeed's Muon without ``torch.compile``.

    ZeRO and bf16 import it to see whether the optimizer is one, which here it never is. Its functions are decorated
    with ``torch.compile``, and that would import all of PyTorch's compiler: a sixth of the time that a run takes to
    start on a CPU.
    """
    from deepspeed.runtime import compiler

    compile_, compiler.compile = compiler.compile, lambda: lambda function: function
    try:
        import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
    finally:
        compiler.compile = compile_


def parameter_groups(model: nn.Module, lr_factor: Callable[[str], float] = lambda name: 1.0) -> list[dict[str, Any]]:
    """Optimizer groups in an order that every run and rank has: dense parameters, then each expert group. Without
    frozen parameters.

    DeepSpeed's own grouping iterates a set of strings, so its order changes from run to run.

    Args:
        model: see `build_engine`.
        lr_factor: see `build_engine`. Parameters with another factor than 1 have groups of their own, after those of
            their kind.
    """
    members: dict[tuple[str, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members.setdefault((expert_group(parameter), lr_factor(name)), []).append(parameter)
    groups = []
    for kind, factor in sorted(members, key=lambda key: (_natural(key[0]), key[1] != 1, key[1])):
        group: dict[str, Any] = {"name": kind or "dense", "params": members[kind, factor]}
        groups.append(group | ({"moe": True} if kind else {}) | ({_LR_FACTOR: factor} if factor != 1 else {}))
    return groups


def set_learning_rate(engine: TrainingState, lr: float) -> None:
    """Sets the learning rate of the next step, for each parameter group times its factor."""
    for group in engine.optimizer.param_groups:
        group["lr"] = lr * group.get(_LR_FACTOR, 1.0)


def gradient_norm(engine: Stepped) -> float:
    """L2 norm of the last step's gradient over all parameters of the job, before clipping, without loss scale.

    Experts count once each, wherever they live. Infinite if the step was skipped; the same on all ranks.
    """
    hook = engine.gradient_norm_hook
    if hook is not None and not step_was_skipped(engine):
        return hook.norm
    norm = engine.get_global_grad_norm()
    return float("inf") if norm is None or step_was_skipped(engine) else float(norm)


def loss_scale(engine: TrainingState) -> float:
    """The factor by which the next loss is multiplied before backward; 1 without fp16."""
    optimizer = engine.optimizer
    return float(optimizer.loss_scaler.cur_scale) if isinstance(optimizer, ScalesLoss) else 1.0


def step_was_skipped(engine: Stepped) -> bool:
    """Whether the last `engine.step()` at an accumulation boundary left the weights as they were (overflow, NaN)."""
    return not engine.was_step_applied()


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _check_model(model: nn.Module) -> None:
    buffers = sorted(name for name, buffer in persistent_buffers(model).items() if buffer.is_floating_point())
    problems = []
    if not any(parameter.requires_grad for parameter in model.parameters()):
        problems.append("model: all parameters are frozen, so there is nothing to train")
    if buffers:
        problems.append(
            f"model: state beside the parameters that half precision would round ({buffers[0]}); "
            "keep it as whole numbers, or register it with persistent=False"
        )
    if problems:
        raise ConfigError(problems)


def _checked_optimizer(config: dict[str, Any]) -> dict[str, Any]:
    optimizer = config.get("optimizer", {})
    if str(optimizer.get("type", "")).lower() not in _ADAM:
        raise ConfigError(f"optimizer.type: expected Adam or AdamW, found {optimizer.get('type')!r}")
    return config


def _without_compilation(config: dict[str, Any]) -> dict[str, Any]:
    from deepspeed.accelerator import get_accelerator

    if get_accelerator().device_name() == "cpu":
        config["optimizer"].setdefault("params", {}).setdefault("torch_adam", True)
    return config


def _allow_fp16_on_every_cpu(config: dict[str, Any]) -> None:
    """DeepSpeed refuses fp16 on processors without instructions for it; torch computes it there too, only slower."""
    from deepspeed.accelerator import get_accelerator

    accelerator = get_accelerator()
    if accelerator.device_name() == "cpu" and config.get("fp16", {}).get("enabled"):
        accelerator.is_fp16_supported = lambda: True


@contextmanager
def _errors_of_a_user() -> Iterator[None]:
    """DeepSpeed's monitors raise whatever their packages and files do."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"building the engine: the package {error.name} is missing, which a monitor of the run file needs; install "
            "it, or take the monitor (wandb, csv_monitor) out"
        ) from error
    except OSError as error:
        if error.filename is None:
            raise
        raise ConfigError(
            f"building the engine: {error.filename}: {error.strerror}; choose another csv_monitor.output_path or "
            "flops_profiler.output_file"
        ) from error


def _make_profile_folder(config: dict[str, Any]) -> None:
    """The profiler makes it at the step that it profiles, where a mistake would cost all steps before."""
    profiler = config.get("flops_profiler", {})
    if profiler.get("enabled") and profiler.get("output_file"):
        Path(profiler["output_file"]).parent.mkdir(parents=True, exist_ok=True)


def _let_the_loss_scale_rest_at_its_floor(engine: TrainingState) -> None:
    """With ZeRO DeepSpeed ends a run by a bare Exception at the first overflow with the lowest loss scale.

    Such a step is skipped like any other, and the run decides how many it puts up with
    (``smoe.train.max_skipped_in_a_row``).
    """
    optimizer = engine.optimizer
    if isinstance(optimizer, ScalesLoss) and optimizer.loss_scaler.dynamic:
        optimizer.loss_scaler.raise_error_at_min_scale = False


def _undo_first_step(engine: TrainingState) -> None:
    """The 16-bit wrappers without ZeRO take a step with zero gradients at construction.

    It leaves Adam's step count at 1 (bias correction is then off by one for the whole run) and applies weight decay.
    """
    optimizer = engine.optimizer
    if optimizer is engine.basic_optimizer:
        return
    assert isinstance(optimizer, Halved)
    engine.basic_optimizer.state.clear()
    optimizer.refresh_fp32_params()
