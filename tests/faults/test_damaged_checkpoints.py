"""Every damage to every file of a checkpoint is noticed, and the one before taken; a full disk costs one save."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.errors import CheckpointError
from tests.helpers.disks import small_disk
from tests.helpers.engines import Setup, digest, full_state, make_engine, train
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank

FLIPS = 25  # random bits of each file
PAGE = 4096


def _two_steps(rank: int, world_size: int, root: Path) -> tuple[Any, dict[int, str]]:
    """Steps 1 and 2 saved under `root`, and what their states are."""
    from smoe_ds.engine.checkpoint import save_checkpoint

    engine = make_engine(rank, world_size, Setup(1))
    states = {}
    for step in (1, 2):
        train(engine, rank, world_size, step - 1, step)
        save_checkpoint(engine, root, step, {"step": step}, keep_last=2)
        states[step] = digest(full_state(engine))
    return engine, states


def _damages(file: Path, older: Path, rng: random.Random) -> Iterator[tuple[str, bytes | None]]:
    """What a file might become; None: it is gone."""
    content = file.read_bytes()
    for _ in range(FLIPS):
        at, bit = rng.randrange(len(content)), rng.randrange(8)
        yield f"bit {bit} of byte {at}", content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
    for length in (0, 1, len(content) // 2, len(content) - 1):
        yield f"cut to {length}", content[:length]
    yield "one byte more", content + b"\0"
    yield "zeros", bytes(len(content))
    yield "gone", None
    for other in sorted(file.parent.iterdir()):
        if other != file:
            yield f"swapped for {other.name}", other.read_bytes()
    yield "of the step before", (older / file.name).read_bytes()


def _damage_everything(rank: int, world_size: int, root: Path) -> dict[str, Any]:
    from smoe_ds.engine.checkpoint import load_checkpoint

    engine, states = _two_steps(rank, world_size, root)
    newest, older, rng = root / "step_00000002", root / "step_00000001", random.Random(5)
    missed, tried = [], 0
    for file in sorted(newest.iterdir()):
        content = file.read_bytes()
        for name, damaged in _damages(file, older, rng):
            file.unlink() if damaged is None else file.write_bytes(damaged)
            tried += 1
            if load_checkpoint(engine, root) != {"step": 1} or digest(full_state(engine)) != states[1]:
                missed.append(f"{file.name}: {name}")
            file.write_bytes(content)
    whole = load_checkpoint(engine, root)
    return {"missed": missed, "tried": tried, "whole": whole, "equal": digest(full_state(engine)) == states[2]}


def test_no_damage_is_missed(tmp_path: Path) -> None:
    (result,) = run_ranks(_damage_everything, 1, tmp_path)
    assert result["missed"] == []
    assert result["tried"] >= 4 * (FLIPS + 11)
    assert (result["whole"], result["equal"]) == ({"step": 2}, True)  # and nothing whole is refused


def test_every_bit_of_a_manifest_counts(tmp_path: Path) -> None:
    from smoe_ds.checkpoints.format import read_manifest, write_manifest
    from smoe_ds.checkpoints.part_file import FileEntry

    folder = tmp_path / "step_00000007"
    folder.mkdir()
    write_manifest(folder, 7, [FileEntry("model-00000.safetensors", 10, "a" * 64)])
    file = folder / "manifest.json"
    content = file.read_bytes()
    assert read_manifest(folder).step == 7
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            read_manifest(folder)


def _fill_and_save(rank: int, world_size: int, disk: Path) -> dict[str, Any]:
    """Saves with 0, 1, 2... free pages until a save goes through."""
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    root = disk / "checkpoints"
    engine, states = _two_steps(rank, world_size, root)
    messages, wrong = [], []
    before = sorted(path.name for path in root.iterdir())
    for pages in range(1000):
        filler = disk / "filler"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - pages * PAGE)
        try:
            save_checkpoint(engine, root, 3, {"step": 3}, keep_last=2)
            return {"messages": messages, "wrong": wrong, "last": load_checkpoint(engine, root)}
        except CheckpointError as error:
            messages.append(str(error))
        filler.unlink()
        names = sorted(path.name for path in root.iterdir())
        if names != before:
            wrong.append(f"{pages} pages: {names}")
        if load_checkpoint(engine, root) != {"step": 2} or digest(full_state(engine)) != states[2]:
            wrong.append(f"{pages} pages: step 2 is not found")
    raise AssertionError("no save went through")


def test_a_disk_that_fills_up_at_any_write(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "2m"):
        (result,) = run_ranks(_fill_and_save, 1, tmp_path / "disk")
    assert len(result["messages"]) > 10
    assert all("No space left on device" in message for message in result["messages"])
    assert result["wrong"] == []
    assert result["last"] == {"step": 3}


def _with_wrong_clocks(rank: int, world_size: int, root: Path) -> list[Any]:
    """Newer checkpoints have older times, in the file system and by this process's clock."""
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    engine, _ = _two_steps(rank, world_size, root)
    now = time.time
    try:
        time.time = lambda: now() - 10 * 86400  # set back while it runs
        save_checkpoint(engine, root, 3, {"step": 3}, keep_last=2)
    finally:
        time.time = now
    for folder in root.glob("step_*"):
        age = 1000 * int(folder.name[-1])
        for path in (*folder.iterdir(), folder):
            os.utime(path, (now() - age, now() - age))
    found = load_checkpoint(engine, root)
    save_checkpoint(engine, root, 4, {"step": 4}, keep_last=2)
    return [found, sorted(path.name for path in root.glob("step_*"))]


def test_steps_decide_what_is_newest_and_clocks_do_not(tmp_path: Path) -> None:
    (result,) = run_ranks(_with_wrong_clocks, 1, tmp_path)
    assert result == [{"step": 3}, ["step_00000003", "step_00000004"]]


def _with_stale_folder(rank: int, world_size: int, root: Path) -> list[Any]:
    """A whole checkpoint of a later step under a temporary name counts for nothing, and goes."""
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    engine, _ = _two_steps(rank, world_size, root)
    shutil.copytree(root / "step_00000002", root / "step_00000009.tmp-0123abcd")
    (root / "step_00000008.tmp-empty").mkdir()
    found = load_checkpoint(engine, root)
    save_checkpoint(engine, root, 3, {"step": 3}, keep_last=2)
    return [found, sorted(path.name for path in root.iterdir())]


def test_a_stale_temporary_folder_is_no_checkpoint(tmp_path: Path) -> None:
    (result,) = run_ranks(_with_stale_folder, 1, tmp_path)
    assert result == [{"step": 2}, ["latest", "step_00000002", "step_00000003"]]
