"""What the engine package leans on inside DeepSpeed, by name: a release that moves one of these fails here, clearly."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.engines import Setup, make_engine, train
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank

ENGINE = """basic_optimizer optimizer module global_steps global_samples micro_steps skipped_steps device
    zero_optimization_stage gradient_accumulation_steps get_data_types get_global_grad_norm was_step_applied"""
SETUPS: dict[str, tuple[Setup, str]] = {
    "AdamW": (Setup(0), "param_groups state register_step_pre_hook"),
    "FP16_UnfusedOptimizer": (Setup(0, "bf16"), "fp16_groups fp32_groups refresh_fp32_params"),
    "BF16_Optimizer": (Setup(1, "bf16", gradient_dtype="fp32"), "bf16_groups update_lp_params"),
    "DeepSpeedZeroOptimizer": (Setup(2, "fp16"), "bit16_groups update_lp_params loss_scaler"),
}
SCALER = "dynamic cur_scale cur_iter last_overflow_iter cur_hysteresis"
MAPPING = "hp_fragment_address lp_fragment_address"


def _missing(thing: Any, names: str) -> list[str]:
    return [f"{type(thing).__name__}.{name}" for name in names.split() if not hasattr(thing, name)]


def _look(rank: int, world_size: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, (setup, names) in SETUPS.items():
        engine = make_engine(rank, world_size, setup)
        train(engine, rank, world_size, 0, 1)
        missing = _missing(engine, ENGINE) + _missing(engine.optimizer, names)
        if setup.stage:
            for parameter in engine.module.parameters():
                missing += _missing(parameter._hp_mapping, MAPPING)
                missing += _missing(parameter._hp_mapping.hp_fragment_address, "start numel")
        if setup.precision == "fp16":
            missing += _missing(engine.optimizer.loss_scaler, SCALER)
        state = next(iter(engine.basic_optimizer.state.values()))
        found[kind] = (type(engine.optimizer).__name__, sorted(set(missing)), sorted(state))
        engine.destroy()
    return found


def test_the_names_we_use_are_there() -> None:
    import deepspeed
    from deepspeed.utils import groups

    assert not _missing(groups, "_get_expert_parallel_group _get_expert_data_parallel_group")
    assert "deepspeed_shm_comm" in deepspeed.ops.__compatible_ops__
    (found,) = run_ranks(_look, 1)
    for kind, (setup, _) in SETUPS.items():
        wrapper, missing, state = found[kind]
        assert wrapper == kind, f"{setup} is wrapped in {wrapper} now; see smoe_ds/engine/fragments.py"
        assert missing == [], "moved in this DeepSpeed release; see smoe_ds/engine/fragments.py and state.py"
        assert state == ["exp_avg", "exp_avg_sq", "step"]
