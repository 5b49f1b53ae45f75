"""``smoe-ds train`` with the shipped engines that offload: losses as without it, on one and two ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.environment import ROOT
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import scalars, small_run, train_on_rank, write_run

pytestmark = pytest.mark.multirank

ENGINES = ROOT / "ds_configs" / "engine"
STEPS = 5


@pytest.mark.parametrize(("world_size", "ep_size"), [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize(("engine", "tolerance"), [("cpu_fp32_zero2_offload", 1e-6), ("v100_fp16_zero2_offload", 1e-3)])
def test_losses_are_those_without_offload(
    tmp_path: Path, corpus_folder: Path, engine: str, tolerance: float, world_size: int, ep_size: int
) -> None:
    logged, offloaded = [], []
    for device in ("none", "cpu"):
        run = small_run(tmp_path / device, corpus_folder, max_steps=STEPS, validate_every=99)
        del run["zero_optimization"]
        run |= {"extends": [str(ENGINES / f"{engine}.json")], "train_batch_size": 4, "gradient_clipping": 0.5}
        run["smoe"]["moe"]["ep_size"] = ep_size
        file = write_run(tmp_path / f"{device}.json", run)
        settings = ["fp16.initial_scale_power=8"]  # no step is skipped
        if device == "none":
            settings.append("zero_optimization.offload_optimizer.device=none")
        codes = run_ranks(train_on_rank, world_size, str(file), settings, init=False, timeout=120)
        assert codes == [0] * world_size
        logged.append(scalars(tmp_path / device))
        state = json.loads((tmp_path / device / "checkpoints" / f"step_{STEPS:08d}" / "state.json").read_text())
        offloaded.append(state["topology"]["offload"])
    assert offloaded == [False, True]
    plain, moved = logged
    for tag, times in (("train/nll", 1), ("train/load_balancing_loss", 1), ("train/gradient_norm", 10)):
        assert sorted(plain[tag]) == list(range(1, STEPS + 1))
        assert moved[tag] == pytest.approx(plain[tag], rel=times * tolerance), tag
    assert plain["train/nll"][STEPS] < plain["train/nll"][1] - 0.1
    assert ("train/loss_scale" in moved) == engine.startswith("v100")
