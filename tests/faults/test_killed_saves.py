"""A save that is killed anywhere costs at most itself: what was committed stays, what was not is never taken for it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.helpers.engines import Setup, digest, full_state, make_engine, train
from tests.helpers.ranks import RankError, run_ranks
from tests.helpers.write_points import WritePoints, killed_child

pytestmark = pytest.mark.multirank

PAIR = Setup(1, ep_size=2)


class Stage:
    """One rank with step 1 committed in `base`, step 2 in its memory, and both states known."""

    def __init__(self, root: Path, rank: int, world_size: int) -> None:
        from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

        self.root, self.load, self.save = root, load_checkpoint, save_checkpoint
        self.engine = make_engine(rank, world_size, Setup(1))
        self.digests = {}
        for step in (1, 2):
            train(self.engine, rank, world_size, step - 1, step)
            save_checkpoint(self.engine, root / ("base" if step == 1 else "two"), step, {"step": step}, keep_last=1)
            self.digests[step] = digest(full_state(self.engine))

    def prepare(self, name: str) -> Path:
        """A folder of checkpoints with step 1 in it; the engine is at step 2."""
        self.load(self.engine, self.root / "two")
        return Path(shutil.copytree(self.root / "base", self.root / name))

    def check(self, folder: Path) -> int:
        """Which step is found, bit for bit; and that the next save goes through and clears up."""
        found = self.load(self.engine, folder)
        assert found is not None
        assert digest(full_state(self.engine)) == self.digests[found["step"]], folder
        self.save(self.engine, folder, 3, {"step": 3}, keep_last=1)
        assert sorted(path.name for path in folder.iterdir()) == ["latest", "step_00000003"]
        shutil.rmtree(folder)
        return int(found["step"])


def _kill_at_points(rank: int, world_size: int, root: Path, every_write: int) -> list[tuple[str, int]]:
    """For each point in turn: its name, and the step that was found after the kill. Of the writes every n-th."""
    stage = Stage(root, rank, world_size)

    def points(folder: Path, at: int | None) -> list[str]:
        counter = WritePoints(folder, at)
        stage.save(stage.engine, folder, 2, {"step": 2}, keep_last=1)
        return [name.replace(str(folder), "") for name in counter.names]

    killed, text = killed_child(lambda: "\n".join(points(stage.prepare("all"), None)))
    assert not killed
    results, writes = [], 0
    for number, name in enumerate(text.splitlines(), 1):
        writes += name.startswith("write")
        if name.startswith("write") and writes % every_write:
            continue
        folder = stage.prepare(f"at-{number}")
        killed, _ = killed_child(lambda folder=folder, number=number: points(folder, number))  # type: ignore[misc]
        assert killed, f"point {number}, {name}, was not reached again"
        results.append((name, stage.check(folder)))
    return results


@pytest.mark.parametrize("every_write", [20, pytest.param(5, marks=pytest.mark.slow), 1])
def test_killed_at_every_point_that_changes_the_disk(tmp_path: Path, every_write: int) -> None:
    (results,) = run_ranks(_kill_at_points, 1, tmp_path, every_write, timeout=600)
    names = [name.split()[0] for name, _ in results]
    assert len(results) > 20
    assert {"open", "write", "fsync", "os.rename", "os.remove", "os.rmdir", "os.mkdir"} == set(names)
    steps = [step for _, step in results]
    commit = steps.index(2)
    assert steps == [1] * commit + [2] * (len(steps) - commit)  # once committed, for ever committed
    before, after = results[commit - 1][0], results[commit][0]
    assert before.startswith("os.rename /step_00000002.tmp-"), before  # killed before the rename: step 1
    assert after == "fsync"  # of the parent folder


def _kill_at_random_times(rank: int, world_size: int, root: Path, number: int) -> tuple[int, list[int]]:
    """How many saves it took until so many were killed within themselves, and the steps found after each."""
    stage = Stage(root, rank, world_size)
    random_times = random.Random(7)
    folder = stage.prepare("timed")
    began = time.monotonic()
    stage.save(stage.engine, folder, 2, {"step": 2}, keep_last=1)
    longest = time.monotonic() - began
    shutil.rmtree(folder)
    in_time, steps = 0, []
    while in_time < number and len(steps) < 10 * number:
        folder, delay = stage.prepare("killed"), random_times.uniform(0, longest)

        def save(folder: Path = folder, delay: float = delay) -> None:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
            stage.save(stage.engine, folder, 2, {"step": 2}, keep_last=1)

        killed, _ = killed_child(save)
        step = stage.check(folder)
        assert killed or step == 2, "a save that returned was lost"
        in_time += killed
        # How long a save takes changes with what else runs: follow it, so that about two of three are killed.
        longest *= 1.1 if killed else 0.8
        steps.append(step)
    return in_time, steps


@pytest.mark.parametrize("number", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_random_times(tmp_path: Path, number: int) -> None:
    ((in_time, steps),) = run_ranks(_kill_at_random_times, 1, tmp_path, number, timeout=600)
    assert in_time == number, f"{len(steps)} saves"
    assert set(steps) <= {1, 2}


def _one_of_two_dies(rank: int, world_size: int, root: Path, victim: int, at: int | None) -> list[str]:
    """Step 1 is saved, then the victim is killed in saving step 2; without a number, the names of its points."""
    from smoe_ds.engine.checkpoint import save_checkpoint

    engine = make_engine(rank, world_size, PAIR)
    train(engine, rank, world_size, 0, 1)
    save_checkpoint(engine, root, 1, {"step": 1}, keep_last=1)
    counter = WritePoints(root, at if rank == victim else None)
    save_checkpoint(engine, root, 2, {"step": 2}, keep_last=1)
    return [name.replace(str(root), "") for name in counter.names]


def _what_is_found(rank: int, world_size: int, roots: list[Path]) -> list[int]:
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    engine = make_engine(rank, world_size, PAIR)
    steps = []
    for root in roots:
        found = load_checkpoint(engine, root)
        assert found is not None
        save_checkpoint(engine, root, 3, {"step": 3}, keep_last=1)
        steps.append(found["step"])
    return steps


def _kill_one_of_two(tmp_path: Path, share: float) -> None:
    """Kills at a seeded share of the points of both ranks."""
    names = run_ranks(_one_of_two_dies, 2, tmp_path / "all", 0, None)
    everything = [(victim, at) for victim in (0, 1) for at in range(1, len(names[victim]) + 1)]
    chosen = random.Random(3).sample(everything, round(share * len(everything)))
    roots = []
    for victim, at in sorted(chosen):
        roots.append(tmp_path / f"{victim}-{at}")
        with pytest.raises(RankError, match=f"rank {victim}: died without an exception, killed by signal 9"):
            run_ranks(_one_of_two_dies, 2, roots[-1], victim, at)
    committed = [(root / "step_00000002").is_dir() for root in roots]
    found = run_ranks(_what_is_found, 2, roots)
    assert found == [[2 if named else 1 for named in committed]] * 2
    for root in roots:
        assert sorted(path.name for path in root.iterdir()) == ["latest", "step_00000003"]


def test_one_of_two_ranks_is_killed_at_some_points(tmp_path: Path) -> None:
    _kill_one_of_two(tmp_path, 0.03)


@pytest.mark.slow
def test_one_of_two_ranks_is_killed_at_many_points(tmp_path: Path) -> None:
    _kill_one_of_two(tmp_path, 0.12)
