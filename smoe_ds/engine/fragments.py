"""Where the optimizer keeps each parameter's fp32 weight and Adam moments, for every engine DeepSpeed builds.

ZeRO 1 and 2 flatten a parameter group and give each data-parallel rank one piece of it, so a rank holds a fragment of
a parameter, all of it, or nothing. The 16-bit wrappers without ZeRO keep fp32 copies; plain fp32 is the model itself.
No optimizer knows a frozen parameter: where the model is in 16 bits, `keep_exact` keeps its fp32 weight on the host, so
that checkpoints have the weight that was loaded, and not what it is rounded to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smoe_ds.checkpoints.format import MASTER, MOMENTS
from smoe_ds.engine.protocol import (
    Bf16Partitioned,
    Bit16Partitioned,
    Copies,
    FlatCopies,
    Partitioned,
    PieceMapping,
    TrainingState,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from smoe_ds.moe.adaptive import Rewrite


_EXACT = "exact_weight"
"""Attribute of a frozen parameter with its fp32 weight."""


@dataclass(frozen=True)
class Fragment:
    """The part of one parameter that this rank's optimizer updates.

    Attributes:
        owner: the fp32 tensor in the optimizer's parameter group; Adam's state is keyed by it.
        offset: first element in the flattened `owner`.
        start: first element in the flattened parameter.
        numel: number of elements; 0 where this rank updates nothing of the parameter.
        frozen: nobody updates the parameter: `owner` is its exact copy or, in fp32, itself, and there are no moments.
    """

    owner: Tensor
    offset: int
    start: int
    numel: int
    frozen: bool = False

    def view(self, optimizer: torch.optim.Optimizer, key: str) -> Tensor:
        """The fragment of the fp32 weight ("master") or of a moment, flat, sharing memory with the optimizer."""
        tensor = self.owner.data if key == MASTER else optimizer.state[self.owner][key]
        return tensor.view(-1).narrow(0, self.offset, self.numel)


def fragments(engine: TrainingState) -> dict[str, Fragment]:
    """The fragment of every parameter of this rank's model, by state-dict name.

    Args:
        engine: a DeepSpeed engine at ZeRO stage 0, 1 or 2.
    """
    found = {id(parameter): fragment for parameter, fragment in _by_parameter(engine)}
    return {
        name: found[id(parameter)] if parameter.requires_grad else _of_frozen(parameter)
        for name, parameter in engine.module.named_parameters()
    }


def keep_exact(model: nn.Module) -> None:
    """Keeps the weights of a model's frozen parameters in fp32 on the host, before the model goes to 16 bits."""
    import torch

    for parameter in model.parameters():
        if not parameter.requires_grad:
            setattr(parameter, _EXACT, parameter.detach().to("cpu", torch.float32, copy=True))


def exact_bytes(frozen: int) -> int:
    """Host memory that `keep_exact` takes for a model with so many frozen parameters [bytes]."""
    return 4 * frozen


def _of_frozen(parameter: nn.Parameter) -> Fragment:
    return Fragment(getattr(parameter, _EXACT, parameter), 0, 0, parameter.numel(), True)


def is_partitioned(engine: TrainingState) -> bool:
    """Whether ranks hold pieces of parameters (ZeRO 1 and 2) instead of whole ones."""
    return engine.zero_optimization_stage() > 0


def ensure_moments(engine: TrainingState) -> None:
    """Creates Adam's state where no step has been taken yet, exactly as its first step would (zeros, step 0)."""
    import torch

    optimizer = engine.basic_optimizer
    torch_adam = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
    for group in optimizer.param_groups:
        on_device = group.get("capturable") or group.get("fused")
        for owner in group["params"]:
            state = optimizer.state[owner]
            if not state:
                state["step"] = torch.zeros((), device=owner.device if on_device else "cpu") if torch_adam else 0
                for key in MOMENTS:
                    state[key] = torch.zeros_like(owner.data)


def get_step(optimizer: torch.optim.Optimizer, owner: Tensor) -> int:
    """Adam steps that `owner` has taken."""
    return int(optimizer.state[owner]["step"])


def set_step(optimizer: torch.optim.Optimizer, owner: Tensor, step: int) -> None:
    """Sets the count in the form the optimizer keeps it in (a tensor for torch's Adam, an int for DeepSpeed's)."""
    import torch

    state = optimizer.state[owner]
    if isinstance(state["step"], torch.Tensor):
        state["step"].fill_(step)
    else:
        state["step"] = step


def replay_steps(optimizer: torch.optim.Optimizer) -> None:
    """Brings DeepSpeed's compiled Adam to where its step counts say it is.

    It keeps running products of the betas, step by step in float32, outside of the optimizer's state. Begun anew they
    would be powers instead, which round otherwise. Steps on a tensor of one element cost microseconds each.
    """
    import torch

    compiled, number = getattr(optimizer, "ds_opt_adam", None), getattr(optimizer, "opt_id", None)
    if compiled is None or number is None:
        return
    for group in optimizer.param_groups:
        taken = max((get_step(optimizer, owner) for owner in group["params"]), default=0)
        scratch = [torch.zeros(1) for _ in range(4)]
        for step in range(1, taken + 1):
            compiled.adam_update(number, step, 0.0, *group["betas"], 1.0, 0.0, group["bias_correction"], *scratch)


def publish_masters(engine: TrainingState) -> None:
    """Copies the fp32 weights into the model's own (16-bit or flattened) parameters. With ZeRO a collective."""
    optimizer = engine.optimizer
    for parameter in engine.module.parameters():
        if (exact := getattr(parameter, _EXACT, None)) is not None:
            parameter.data.copy_(exact)
    if isinstance(optimizer, Partitioned):
        optimizer.update_lp_params()
    elif optimizer is not engine.basic_optimizer:
        found = fragments(engine)
        for name, parameter in engine.module.named_parameters():
            if parameter.requires_grad:
                parameter.data.view(-1).copy_(found[name].view(engine.basic_optimizer, MASTER))


def rewrite_parameters(engine: TrainingState, rewrites: Sequence[Rewrite]) -> None:
    """Writes numbers into parameters and the fp32 weights behind them. With ZeRO a collective.

    Args:
        engine: between steps.
        rewrites: what is written where, the same on all ranks.
    """
    by_name = fragments(engine)
    found = {id(parameter): by_name[name] for name, parameter in engine.module.named_parameters()}
    for rewrite in rewrites:
        fragment = found[id(rewrite.parameter)]
        first = max(rewrite.first, fragment.start)
        number = min(rewrite.first + rewrite.values.numel(), fragment.start + fragment.numel) - first
        if number > 0:
            values = rewrite.values.narrow(0, first - rewrite.first, number)
            master = fragment.view(engine.basic_optimizer, MASTER)
            master.narrow(0, first - fragment.start, number).copy_(values)
    publish_masters(engine)


def _by_parameter(engine: TrainingState) -> Iterator[tuple[nn.Parameter, Fragment]]:
    optimizer = engine.optimizer
    if isinstance(optimizer, Bf16Partitioned):
        yield from _pieces(optimizer.bf16_groups, engine.basic_optimizer)
    elif isinstance(optimizer, Bit16Partitioned):
        yield from _pieces(optimizer.bit16_groups, engine.basic_optimizer)
    elif isinstance(optimizer, FlatCopies):
        for parameters, flat in zip(optimizer.fp16_groups, optimizer.fp32_groups_flat, strict=True):
            offset = 0
            for parameter in parameters:
                yield parameter, Fragment(flat, offset, 0, parameter.numel())
                offset += parameter.numel()
    elif isinstance(optimizer, Copies):
        for parameters, copies in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
            for parameter, master in zip(parameters, copies, strict=True):
                yield parameter, Fragment(master, 0, 0, parameter.numel())
    else:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                yield parameter, Fragment(parameter, 0, 0, parameter.numel())


def _pieces(
    groups: list[list[nn.Parameter]], optimizer: torch.optim.Optimizer
) -> Iterator[tuple[nn.Parameter, Fragment]]:
    """What this rank has of each parameter under ZeRO 1 and 2: a stretch of its piece of the parameter group."""
    for parameters, group in zip(groups, optimizer.param_groups, strict=True):
        (flat,) = group["params"]
        for parameter in parameters:
            mapping: PieceMapping | None = parameter._hp_mapping  # type: ignore[attr-defined]
            if mapping is None:
                yield parameter, Fragment(flat, 0, 0, 0)
            else:
                here, there = mapping.hp_fragment_address, mapping.lp_fragment_address
                yield parameter, Fragment(flat, here.start, there.start, here.numel)
