"""What is used of DeepSpeed's engine and of its optimizers, as types; a function asks for the narrowest that serves it.

DeepSpeed brings no types of its own. `tests/engine/test_internals.py` compares these with real engines, so that a
release that moves one of the names fails there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Optimizer(Protocol):
    """What the engine steps: a wrapper around the basic optimizer, or the basic optimizer itself."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The basic optimizer's parameter groups."""


class TrainingState(Protocol):
    """An engine at ZeRO stage 0, 1 or 2 as the keeper of weights and optimizer state."""

    @property
    def module(self) -> nn.Module:
        """The model."""

    @property
    def optimizer(self) -> Optimizer:
        """The wrapper around `basic_optimizer`; `basic_optimizer` itself in fp32 without ZeRO."""

    @property
    def basic_optimizer(self) -> torch.optim.Optimizer:
        """Adam or AdamW, PyTorch's or DeepSpeed's, over the fp32 weights."""

    def zero_optimization_stage(self) -> int:
        """0: every rank holds whole parameters; 1 and 2: pieces."""


class Steps(Protocol):
    """An engine as the counter of its steps."""

    global_steps: int
    global_samples: int
    skipped_steps: int
    micro_steps: int

    @property
    def optimizer(self) -> Optimizer:
        """Has the loss scaler, whose state changes with the steps."""

    def gradient_accumulation_steps(self) -> int:
        """Micro-batches of this rank in a step."""


class NormHook(Protocol):
    """Takes the gradient norm where DeepSpeed's is wrong."""

    @property
    def norm(self) -> float:
        """L2 norm of the last step's gradient before clipping."""


class Stepped(TrainingState, Protocol):
    """An engine after a step: what became of its gradient."""

    @property
    def gradient_norm_hook(self) -> NormHook | None:
        """Ours, put there by `build_engine`; None with ZeRO."""

    def was_step_applied(self) -> bool:
        """Whether the last step changed the weights."""

    def get_global_grad_norm(self) -> float | None:
        """DeepSpeed's own norm of the last step's gradient."""


class Engine(Stepped, Steps, Protocol):
    """All that a training run uses."""

    @property
    def optimizer(self) -> Optimizer:
        """See `TrainingState`."""

    def __call__(self, *inputs: Any) -> Any:
        """The model's forward pass."""

    def train(self) -> object:
        """Puts the model into training mode."""

    def backward(self, loss: Tensor) -> object:
        """Adds the gradient of one micro-batch."""

    def step(self) -> object:
        """Ends a micro-batch; at an accumulation boundary updates the weights."""

    def get_data_types(self) -> tuple[torch.dtype, torch.dtype]:
        """Type of the model's parameters, type in which gradients are accumulated."""

    def zero_use_cpu_optimizer(self) -> bool:
        """Whether optimizer state lies in the host's memory."""


class LossScaler(Protocol):
    """fp16's loss scale; the fields but for `dynamic` and `cur_scale` are those of a dynamic one alone."""

    dynamic: bool
    cur_scale: float
    cur_iter: int
    last_overflow_iter: int
    cur_hysteresis: int
    raise_error_at_min_scale: bool


@runtime_checkable
class ScalesLoss(Optimizer, Protocol):
    """A wrapper with a loss scaler."""

    loss_scaler: LossScaler


@runtime_checkable
class Halved(Optimizer, Protocol):
    """16 bits without ZeRO: the model's parameters by parameter group, and fp32 copies of them."""

    fp16_groups: list[list[nn.Parameter]]

    def refresh_fp32_params(self) -> None:
        """Copies the model's weights into the fp32 copies."""


@runtime_checkable
class Copies(Halved, Protocol):
    """A copy of each parameter."""

    fp32_groups: list[list[Tensor]]


@runtime_checkable
class FlatCopies(Halved, Protocol):
    """With a fused optimizer: the copies of a parameter group lie in one flat tensor."""

    fp32_groups_flat: list[Tensor]


@runtime_checkable
class Partitioned(Optimizer, Protocol):
    """ZeRO 1 and 2: this rank updates a piece of each parameter group."""

    def update_lp_params(self) -> None:
        """Copies the fp32 pieces of all ranks into the model's parameters. A collective."""


@runtime_checkable
class Bit16Partitioned(Partitioned, Protocol):
    """ZeRO 1 and 2 but for bf16 with fp32 gradients."""

    bit16_groups: list[list[nn.Parameter]]


@runtime_checkable
class Bf16Partitioned(Partitioned, Protocol):
    """ZeRO 1 with bf16 and fp32 gradients."""

    bf16_groups: list[list[nn.Parameter]]


class Stretch(Protocol):
    """A stretch of a flat tensor."""

    start: int
    numel: int


class PieceMapping(Protocol):
    """Where ZeRO keeps this rank's piece of a parameter, ``parameter._hp_mapping``."""

    hp_fragment_address: Stretch
    lp_fragment_address: Stretch
