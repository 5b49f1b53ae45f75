"""What the engine package leans on inside DeepSpeed, by name: a release that moves one of these fails here, clearly."""

from __future__ import annotations

from typing import Any

import pytest

from smoe_ds.engine import protocol
from smoe_ds.engine.gradients import _KeepsNorm
from tests.helpers.engines import Setup, make_engine, train
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank

SETUPS: dict[str, tuple[Setup, tuple[type, ...]]] = {
    "AdamW": (Setup(0), (protocol.Optimizer,)),
    "FP16_UnfusedOptimizer": (Setup(0, "bf16"), (protocol.Copies,)),
    "BF16_Optimizer": (Setup(1, "bf16", gradient_dtype="fp32"), (protocol.Bf16Partitioned, _KeepsNorm)),
    "DeepSpeedZeroOptimizer": (
        Setup(2, "fp16"), (protocol.Bit16Partitioned, protocol.ScalesLoss, _KeepsNorm)
    ),
}  # fmt: skip
WRAPPERS = (
    protocol.Halved,
    protocol.Copies,
    protocol.FlatCopies,
    protocol.Partitioned,
    protocol.Bf16Partitioned,
    protocol.Bit16Partitioned,
    protocol.ScalesLoss,
)


def _names(kind: type) -> list[str]:
    """The members that a protocol asks for, its bases' included."""
    found: set[str] = set()
    for base in kind.__mro__:
        if getattr(base, "_is_protocol", False) and base.__module__ != "typing":
            found |= {*getattr(base, "__annotations__", {}), *vars(base)}
    own = {name for name in found if not name.startswith("_") or name in ("__call__", "_global_grad_norm")}
    return sorted(own)


def _missing(thing: Any, kind: type) -> list[str]:
    return [f"{type(thing).__name__}.{name}" for name in _names(kind) if not hasattr(thing, name)]


def _look(rank: int, world_size: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, (setup, protocols) in SETUPS.items():
        engine = make_engine(rank, world_size, setup)
        train(engine, rank, world_size, 0, 1)
        missing = _missing(engine, protocol.Engine)
        missing += [name for wanted in protocols for name in _missing(engine.optimizer, wanted)]
        if setup.stage:
            for parameter in engine.module.parameters():
                missing += _missing(parameter._hp_mapping, protocol.PieceMapping)
                missing += _missing(parameter._hp_mapping.hp_fragment_address, protocol.Stretch)
        if setup.precision == "fp16":
            missing += _missing(engine.optimizer.loss_scaler, protocol.LossScaler)
        state = next(iter(engine.basic_optimizer.state.values()))
        kinds = [wanted.__name__ for wanted in WRAPPERS if isinstance(engine.optimizer, wanted)]
        found[kind] = (type(engine.optimizer).__name__, sorted(set(missing)), sorted(state), kinds)
        engine.destroy()
    return found


def test_the_names_we_use_are_there() -> None:
    import deepspeed
    from deepspeed.utils import groups

    assert hasattr(groups, "_get_expert_parallel_group") and hasattr(groups, "_get_expert_data_parallel_group")
    assert "deepspeed_shm_comm" in deepspeed.ops.__compatible_ops__
    (found,) = run_ranks(_look, 1)
    for kind, (setup, protocols) in SETUPS.items():
        wrapper, missing, state, told_apart = found[kind]
        assert wrapper == kind, f"{setup} is wrapped in {wrapper} now; see smoe_ds/engine/fragments.py"
        assert missing == [], "moved in this DeepSpeed release; see smoe_ds/engine/protocol.py"
        expected = {base.__name__ for wanted in protocols for base in wanted.__mro__} & {w.__name__ for w in WRAPPERS}
        assert set(told_apart) == expected, "the wrappers are told apart by these"
        assert state == ["exp_avg", "exp_avg_sq", "step"]
