"""Topologies read what others wrote: bit-equal weights, moments and steps, for the pairs of a grid."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.engines import Setup, full_state, make_engine, train
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank

STRATA = [(4, 4, 8), (2, 2, 2, 2)]
STEP = 1
Content = dict[str, str]  # SHA-256 of each weight and moment, and Adam steps, by name


def topologies(strata: tuple[int, ...]) -> list[tuple[int, Setup]]:
    """World size and setup of every point of the grid; offload needs ZeRO."""
    return [
        (world_size, Setup(stage, ep_size=ep_size, offload=offload, strata=strata))
        for world_size in (1, 2, 4)
        for ep_size in (1, 2, 4)
        if ep_size <= world_size
        for stage, offload in ((0, False), (1, False), (1, True), (2, False), (2, True))
    ]


def label(world_size: int, setup: Setup) -> str:
    return f"world{world_size}-ep{setup.ep_size}-zero{setup.stage}{'-offload' if setup.offload else ''}"


def content(engine: Any) -> Content:
    """What this rank would write, in the engine's own memory."""
    from smoe_ds.engine.state import owned_parameters

    state = {n: t for n, t in full_state(engine).items() if not n.startswith("model/")}
    hashes = {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in state.items()}
    return hashes | {f"step/{owned.name}": str(owned.step) for owned in owned_parameters(engine)}


def write_all(rank: int, world_size: int, root: str, setups: list[Setup]) -> list[Content]:
    """Trains a step in each setup, saves it; what was in the engine."""
    from smoe_ds.engine.checkpoint import save_checkpoint

    contents = []
    for number, setup in enumerate(setups):
        engine = make_engine(rank, world_size, setup)
        train(engine, rank, world_size, number, number + STEP)  # other data for each: no two states are the same
        save_checkpoint(engine, Path(root) / label(world_size, setup), STEP, {}, keep_last=1)
        contents.append(content(engine))
        engine.destroy()
    return contents


def read_all(rank: int, world_size: int, root: str, pairs: list[tuple[Setup, list[str]]]) -> list[list[Content]]:
    """For each setup, what is in its engine after loading each of the checkpoints."""
    from smoe_ds.engine.checkpoint import load_checkpoint

    results = []
    for setup, writers in pairs:
        engine = make_engine(rank, world_size, setup)
        loaded = []
        for writer in writers:
            assert load_checkpoint(engine, Path(root) / writer) == {}
            loaded.append(content(engine))
        results.append(loaded)
        engine.destroy()
    return results


def merged(by_rank: list[Content]) -> Content:
    """The union over ranks; every name comes from exactly one."""
    union: Content = {}
    for part in by_rank:
        assert not part.keys() & union.keys()
        union |= part
    return union


def in_files(folder: Path) -> Content:
    """What the files hold, read with safetensors alone."""
    from safetensors import safe_open

    found: Content = {}
    for path in folder.glob("step_*/*.safetensors"):
        with safe_open(path, framework="pt") as part:
            prefix = "master/" if path.name.startswith("model") else ""
            for name in part.keys():  # noqa: SIM118 - not a mapping
                found[prefix + name] = hashlib.sha256(part.get_tensor(name).numpy().tobytes()).hexdigest()
            steps = json.loads((part.metadata() or {}).get("steps", "{}"))
            found |= {f"step/{name}": str(step) for name, step in steps.items()}
    return found


def check(root: Path, writers: list[tuple[int, Setup]], pairs: dict[tuple[int, Setup], list[str]]) -> None:
    written: dict[str, Content] = {}
    for size in (1, 2, 4):
        setups = [setup for world_size, setup in writers if world_size == size]
        by_rank = run_ranks(write_all, size, str(root), setups, timeout=300)
        for setup, *parts in zip(setups, *by_rank, strict=True):
            written[label(size, setup)] = merged(parts)
    for name, expected in written.items():
        assert in_files(root / name) == expected, name
    assert len({json.dumps(one, sort_keys=True) for one in written.values()}) == len(written)
    for size in (1, 2, 4):
        mine = [(setup, names) for (world_size, setup), names in pairs.items() if world_size == size]
        by_rank = run_ranks(read_all, size, str(root), mine, timeout=500)
        for (setup, names), *parts in zip(mine, *by_rank, strict=True):
            for name, *of_ranks in zip(names, *parts, strict=True):
                assert merged(of_ranks) == written[name], f"{name} read by {label(size, setup)}"


@pytest.mark.parametrize("strata", STRATA, ids=str)
def test_a_ring_through_the_grid(tmp_path: Path, strata: tuple[int, ...]) -> None:
    """Some topologies in a circle, each read by the next one and by another far from it."""
    ring = random.Random(len(strata)).sample(topologies(strata), 8)
    assert {world_size for world_size, _ in ring} == {1, 2, 4}
    names = [label(*topology) for topology in ring]
    pairs = {topology: [names[i - 1], names[i - 4]] for i, topology in enumerate(ring)}
    check(tmp_path, ring, pairs)


@pytest.mark.slow
@pytest.mark.parametrize("strata", STRATA, ids=str)
def test_every_topology_of_the_grid(tmp_path: Path, strata: tuple[int, ...]) -> None:
    """Each writes, and reads what three others wrote, one of each world size."""
    grid = topologies(strata)
    names = [label(*topology) for topology in grid]
    by_size = [[name for name in names if name.startswith(f"world{size}-")] for size in (1, 2, 4)]
    pairs = {topology: [some[(7 * i + 3) % len(some)] for some in by_size] for i, topology in enumerate(grid)}
    assert {name for some in pairs.values() for name in some} == set(names), "each is read by somebody"
    check(tmp_path, grid, pairs)


@pytest.mark.parametrize("strata", STRATA, ids=str)
def test_every_pair_of_the_grid(tmp_path: Path, strata: tuple[int, ...]) -> None:
    grid = topologies(strata)
    names = [label(*topology) for topology in grid]
    assert len(names) == len(set(names)) == 30
    check(tmp_path, grid, dict.fromkeys(grid, names))
