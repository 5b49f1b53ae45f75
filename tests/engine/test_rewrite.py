"""Numbers written into parameters between steps reach the fp32 weights and the model, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.engines import Setup, full_state, make_engine, train
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank

SETUPS = [
    Setup(0),
    Setup(1, ep_size=2),
    Setup(2, ep_size=2, offload=True),
    Setup(0, "bf16", ep_size=2),
    Setup(2, "bf16"),
    Setup(1, "fp16"),
]
STRETCH = slice(3, 8)


def _rewrite_all(rank: int, world_size: int, setups: list[Setup]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    from smoe_ds.engine.fragments import rewrite_parameters
    from smoe_ds.moe.adaptive import Rewrite

    found = []
    for setup in setups:
        engine = make_engine(rank, world_size, setup)
        train(engine, rank, world_size, 0, 1)
        before = full_state(engine)
        parameters = [p for p in engine.module.parameters() if p.numel() > STRETCH.stop]
        rewrite_parameters(engine, [Rewrite(p, STRETCH.start, torch.linspace(0.5, 0.9, 5)) for p in parameters])
        after = full_state(engine)
        train(engine, rank, world_size, 1, 2)
        found.append((before, after, full_state(engine)))
        engine.destroy()
    return found


@pytest.mark.parametrize("number", range(len(SETUPS)), ids=[f"{s.stage}-{s.precision}-{s.ep_size}" for s in SETUPS])
def test_masters_follow(number: int) -> None:
    setup = SETUPS[number]
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[setup.precision]
    written = 0
    for (parts,) in run_ranks(_rewrite_all, 2, [setup]):
        before, after, next_step = parts
        for name, tensor in after.items():
            expected = before[name].flatten().clone()
            if not name.startswith("exp_avg") and expected.numel() > STRETCH.stop:
                values = torch.linspace(0.5, 0.9, 5)
                expected[STRETCH] = values.to(dtype).float() if name.startswith("model/") else values
                written += 1
                moved = (next_step[name].flatten()[STRETCH] - values).abs().max()
                assert moved < 0.03, f"{name}: the next step started elsewhere"
            assert torch.equal(tensor.flatten(), expected), name
    assert written > 20
