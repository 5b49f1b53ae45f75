"""Gradient norm and clipping without ZeRO, where DeepSpeed's are wrong with experts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from smoe_ds.engine.expert_groups import expert_parallel_group
from smoe_ds.engine.protocol import Stepped, TrainingState

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@runtime_checkable
class _KeepsNorm(Protocol):
    """A wrapper of ZeRO 1 and 2 while it steps: the norm that the engine tells only afterwards."""

    _global_grad_norm: float


class GradientNormHook:
    """Runs just before the optimizer's step: takes the norm, clips, and drops a gradient that is not finite.

    DeepSpeed without ZeRO averages the norms of the ranks (fp32) or leaves experts out (16 bits). Here dense gradients
    count once, since all ranks hold the same, and the squares of expert gradients are summed over the expert-parallel
    group. With a norm that is not finite the gradients are removed, so that Adam skips every parameter, and the
    optimizer is marked as overflowed, as ZeRO 1 and 2 do.

    Args:
        engine: a DeepSpeed engine at ZeRO stage 0.
        max_norm: gradients are scaled down to this norm; 0 means never.

    Attributes:
        norm: L2 norm of the last step's gradient before clipping.
    """

    def __init__(self, engine: TrainingState, max_norm: float) -> None:
        self.max_norm = max_norm
        self.norm = 0.0
        engine.basic_optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        import torch

        self.norm = math.sqrt(sum(_squares(group) for group in optimizer.param_groups))
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        overflow = not math.isfinite(self.norm)
        optimizer.overflow = overflow  # type: ignore[attr-defined]
        if overflow:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
        elif self.max_norm > 0 and self.norm > self.max_norm:
            torch._foreach_mul_(gradients, self.max_norm / self.norm)


def _squares(group: dict[str, Any]) -> float:
    """Sum of squares of a parameter group's gradients over the job, in float64."""
    import torch
    import torch.distributed as dist

    gradients = [p.grad for p in group["params"] if p.grad is not None]
    if not gradients:
        return 0.0
    total = torch.stack(torch._foreach_norm(gradients)).double().square().sum()
    if group.get("moe"):
        dist.all_reduce(total, group=expert_parallel_group(group["name"]))
    return float(total)


class UpdateGate:
    """Keeps the optimizer from taking a step that nobody wants, at any ZeRO stage, precision and offload.

    Just before the optimizer's own step, when the gradient norm is known and the same on all ranks, the gradients are
    put aside if the gate was closed or the norm is above the limit; Adam then leaves weights, moments and step counts
    as they are. They are put back afterwards, since ZeRO with offload keeps using their memory.

    Args:
        engine: a DeepSpeed engine, from `build_engine`.

    Attributes:
        closed: whether the next step is left out whatever its norm; the same on all ranks.
        norm_limit: highest gradient norm with which the next step is taken.
        dropped: whether the last step was left out.
    """

    def __init__(self, engine: Stepped) -> None:
        self._engine = engine
        self._aside: list[tuple[nn.Parameter, Tensor | None]] = []
        self.closed = False
        self.norm_limit = math.inf
        self.dropped = False
        engine.basic_optimizer.register_step_pre_hook(self._before_step)
        engine.basic_optimizer.register_step_post_hook(self._after_step)

    def _norm(self) -> float:
        hook = self._engine.gradient_norm_hook
        if hook is not None:
            return hook.norm
        wrapper = self._engine.optimizer
        assert isinstance(wrapper, _KeepsNorm)
        return float(wrapper._global_grad_norm)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self.dropped = self.closed or self._norm() > self.norm_limit
        if not self.dropped:
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                self._aside.append((parameter, parameter.grad))
                parameter.grad = None

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for parameter, gradient in self._aside:
            parameter.grad = gradient
        self._aside.clear()
