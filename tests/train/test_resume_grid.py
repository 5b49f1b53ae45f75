"""Whole runs resumed from each of their steps equal the uninterrupted one bit for bit; other ranks go on with its data.

Dropout and the drawing of second experts are on; steps accumulate, an epoch ends in the middle, fp16 skips steps.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.engines import join_gloo
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import small_run, write_run

pytestmark = pytest.mark.multirank

STEPS = 6
SETUPS: dict[str, dict[str, Any]] = {
    "fp32-zero1-ep2": {"ep_size": 2, "stage": 1},
    "fp16-zero2": {
        "ep_size": 1,
        "stage": 2,
        "fp16": {"enabled": True, "initial_scale_power": 21, "loss_scale_window": 2, "hysteresis": 1},
    },
}


def make_run(folder: Path, corpus: Path, setup: dict[str, Any]) -> dict[str, Any]:
    """A run that saves every step."""
    train = {"max_steps": STEPS, "validate_every": 1000, "checkpoint_every": 1, "keep_last": STEPS}
    run = small_run(folder, corpus, **train)
    run["train_batch_size"] = 4  # two micro-batches a rank and step
    run["zero_optimization"]["stage"] = setup["stage"]
    run["smoe"]["moe"] |= {"ep_size": setup["ep_size"], "second_expert": "sample"}
    run["smoe"]["data"] |= {"max_tokens": 3072, "window": 256, "directions": ["eng-nso", "nso-eng"]}
    if "fp16" in setup:
        run["fp16"] = setup["fp16"]
    return run


def fit_all(rank: int, world_size: int, files: list[str]) -> list[int]:
    """Trains run after run in this process."""
    import torch

    from smoe_ds.config.load import load_run
    from smoe_ds.parallel.launchers import discover
    from smoe_ds.train.trainer import Trainer

    join_gloo()
    codes = []
    for file in files:
        trainer = Trainer(load_run(file), discover(), torch.device("cpu"))
        codes.append(trainer.fit())
        trainer.engine.destroy()
    return codes


def prepare(tmp_path: Path, whole: Path, run: dict[str, Any], name: str, begin: int, end: int) -> str:
    """The run file of a run that goes on from step `begin` of another."""
    folder = tmp_path / name
    (folder / "checkpoints").mkdir(parents=True)
    for file in ("config.json", "tokenizer.model"):
        shutil.copy(whole / file, folder / file)
    step = f"step_{begin:08d}"
    shutil.copytree(whole / "checkpoints" / step, folder / "checkpoints" / step)
    (folder / "checkpoints" / "latest").write_text(f"{step}\n")
    changed = json.loads(json.dumps(run))
    changed["smoe"]["train"] |= {"output_dir": str(folder), "max_steps": end}
    return str(write_run(tmp_path / f"{name}.json", changed))


def saved(folder: Path, step: int) -> tuple[dict[str, Any], dict[str, str]]:
    """State and SHA-256 of the tensor files of a step."""
    checkpoint = folder / "checkpoints" / f"step_{step:08d}"
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    hashes = {entry["name"]: entry["sha256"] for entry in manifest["files"] if entry["name"] != "state.json"}
    return json.loads((checkpoint / "state.json").read_text()), hashes


@pytest.mark.parametrize("name", SETUPS)
def test_resumed_from_every_step(tmp_path: Path, corpus_folder: Path, name: str) -> None:
    whole = tmp_path / "whole"
    run = make_run(whole, corpus_folder, SETUPS[name])
    assert run_ranks(fit_all, 2, [str(write_run(tmp_path / "whole.json", run))], timeout=240) == [[0], [0]]
    states = {step: saved(whole, step)[0] for step in range(1, STEPS + 1)}
    _check_what_is_covered(states, corpus_folder, fp16="fp16" in SETUPS[name])

    # each to the next step alone: what is equal there goes on as the resume from there does
    begins = range(1, STEPS)
    files = [prepare(tmp_path, whole, run, f"from-{begin}", begin, begin + 1) for begin in begins]
    run_ranks(fit_all, 2, files, timeout=400)
    for begin in begins:
        (expected, hashes), (state, found) = saved(whole, begin + 1), saved(tmp_path / f"from-{begin}", begin + 1)
        assert found == hashes, f"from step {begin}"
        assert state["extra"]["stream"] == expected["extra"]["stream"]
        assert state["engine"] == expected["engine"]


def _check_what_is_covered(states: dict[int, dict[str, Any]], corpus: Path, *, fp16: bool) -> None:
    """The run above crosses what it is to cross, with a step to resume from on either side."""
    splits = json.loads((corpus / "manifest.json").read_text())["splits"]["train"]
    sentences = {pair: entry["sentences"] for pair, entry in splits.items()}
    size = next(count for pair, count in sentences.items() if "nso" in pair)
    epochs = {step: state["extra"]["stream"]["drawn"]["eng-nso"] // size for step, state in states.items()}
    assert epochs[2] == 0 and epochs[STEPS - 1] >= 1, epochs
    assert {state["extra"]["stream"]["micro_batch"] for state in states.values()} == set(range(4, 4 * STEPS + 1, 4))
    skipped = [state["engine"]["skipped_steps"] for state in states.values()]
    assert not fp16 or 0 < skipped[1] <= skipped[-1] < STEPS - 1, skipped
    assert fp16 or skipped[-1] == 0


def test_other_ranks_go_on_with_the_data(tmp_path: Path, corpus_folder: Path) -> None:
    whole = tmp_path / "whole"
    run = make_run(whole, corpus_folder, SETUPS["fp32-zero1-ep2"])
    run_ranks(fit_all, 2, [str(write_run(tmp_path / "whole.json", run))], timeout=240)
    run["smoe"]["moe"]["ep_size"] = 1
    for world_size in (1, 4):
        name = f"on-{world_size}"
        file = prepare(tmp_path, whole, run, name, 3, 5)
        run_ranks(fit_all, world_size, [file], timeout=240)
        for step in (4, 5):
            (expected, _), (state, _) = saved(whole, step), saved(tmp_path / name, step)
            assert state["extra"]["stream"] == expected["extra"]["stream"]
            assert state["engine"] == expected["engine"]
            assert state["topology"]["world_size"] == world_size
