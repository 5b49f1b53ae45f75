"""Which checkpoints are averaged, and that their mean is that of a loop over numbers in float64."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.checkpoints import format as fmt
from smoe_ds.checkpoints.part_file import FileEntry
from smoe_ds.errors import CheckpointError
from smoe_ds.weights.average import Mean, best, candidates, newest, of_steps
from tests.helpers.random_run import write_checkpoint

SHAPES: dict[str, tuple[int, ...]] = {"w": (3, 4), "b": (5,), "scalar": (), "steps": (4,)}


def random_weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scale = 10.0 ** torch.randint(-6, 7, (), generator=generator)
    weights = {name: scale * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return weights | {"steps": torch.randint(-9, 9, (4,), generator=generator).float()}


def with_state(folder: Path, progress: dict[str, Any]) -> None:
    """Gives a checkpoint of weights a state.json."""
    text = json.dumps({"extra": {"progress": progress}})
    (folder / fmt.STATE).write_text(text, encoding="utf-8")
    state = FileEntry(fmt.STATE, len(text), hashlib.sha256(text.encode()).hexdigest())
    fmt.write_manifest(folder, fmt.step_of(folder), [*fmt.read_manifest(folder).files, state])


def naive_mean(values: list[float]) -> float:
    """In Python's float64, rounded to float32 at the end."""
    total = 0.0
    for value in values:
        total += value
    return float(struct.unpack("f", struct.pack("f", total / len(values)))[0])


@pytest.mark.parametrize("number", [2, 3, 7])
def test_mean_is_the_loop_s_to_the_bit(tmp_path: Path, number: int) -> None:
    weights = [random_weights(seed) for seed in range(number)]
    folders = [write_checkpoint(tmp_path, step, of_step) for step, of_step in enumerate(weights, start=1)]
    mean = Mean(folders)
    assert mean.shapes == SHAPES
    for name in SHAPES:
        rows = zip(*(of_step[name].flatten().tolist() for of_step in weights), strict=True)
        assert mean.tensor(name).flatten().tolist() == [naive_mean(list(row)) for row in rows]
        assert mean.tensor(name).dtype == torch.float32


def test_counts_stay_whole_numbers(tmp_path: Path) -> None:
    weights = [random_weights(seed) for seed in range(3)]
    folders = [write_checkpoint(tmp_path, step, of_step) for step, of_step in enumerate(weights, start=1)]
    rows = zip(*(of_step["steps"].tolist() for of_step in weights), strict=True)
    expected = [float(round(sum(row) / 3)) for row in rows]
    assert Mean(folders, {"steps"}).tensor("steps").tolist() == expected
    assert Mean(folders).tensor("steps").tolist() != expected


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Steps 10 to 50; 10, 20 and 40 were validated then, 30 and 50 only before."""
    nll = {10: 3.0, 20: 2.0, 30: 2.0, 40: 2.5, 50: 2.5}
    validated = {10: 10, 20: 20, 30: 20, 40: 40, 50: 40}
    for step in nll:
        folder = write_checkpoint(tmp_path, step, random_weights(step))
        with_state(folder, {"validation_nll": nll[step], "last_validation": validated[step]})
    return tmp_path


def test_choices(root: Path) -> None:
    found = candidates(root)
    assert [one.step for one in newest(found, 3)] == [50, 40, 30]
    assert [(one.step, one.nll) for one in best(found, 2)] == [(20, 2.0), (40, 2.5)]
    assert [one.step for one in best(found, 3)] == [20, 40, 10]
    assert [one.step for one in of_steps(found, [10, 50])] == [50, 10]


def test_too_few_are_named(root: Path, tmp_path: Path) -> None:
    found = candidates(root)
    with pytest.raises(CheckpointError, match=r"5 checkpoints are kept, 6 are asked for \(steps 10, 20, 30, 40, 50\)"):
        newest(found, 6)
    with pytest.raises(CheckpointError, match=r"3 of the 5 have one \(steps 10, 20, 40\); .*checkpoint_every"):
        best(found, 4)
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 15, 60; there are the steps 10, 20, 30, 40, 50"):
        of_steps(found, [10, 60, 15])
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        candidates(tmp_path / "empty")


def test_damage_and_strangers_are_refused(root: Path, tmp_path: Path) -> None:
    first, second = root / "step_00000010", root / "step_00000020"
    for folders in ([], [first], [first, first], [first, second, first.parent / "." / first.name]):
        with pytest.raises(CheckpointError, match="nothing to average"):
            Mean(folders)
    other = write_checkpoint(tmp_path / "other", 1, random_weights(1) | {"w": torch.zeros(3, 5), "more": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"another model .*1 parameters not in this model \(more\); .*w \[3, 5\]"):
        Mean([first, other])
    part = second / "model-00000.safetensors"
    content = bytearray(part.read_bytes())
    content[-3] ^= 4
    part.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"step_00000020.*the file is damaged"):
        Mean([first, second])
    state = first / fmt.STATE
    state.write_text(state.read_text().replace("3.0", "1.0"))
    with pytest.raises(CheckpointError, match=r"step_00000010.state\.json.*damaged"):
        candidates(root)
