"""A save takes little memory beside the training state, however large the tensors are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.checkpoints.background_hash import WAITING
from smoe_ds.checkpoints.part_file import PartFile
from smoe_ds.engine.state import PIECE
from tests.helpers.engines import join_gloo
from tests.helpers.environment import ROOT
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank

PIECE_BYTES = 4 * PIECE
FILES = 2
BOUND = FILES * (WAITING + 2) * PIECE_BYTES  # stated in CHECKPOINTS.md: waiting, being hashed, being written
NOISE = 12 << 20  # interpreter, threads, allocator
ELEMENTS = 48 << 20  # 192 MiB a tensor, across the border of the two ranks' partitions


class _Wide(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(ELEMENTS))
        self.scale = torch.nn.Parameter(torch.ones(8))


def _peak_of_a_save(rank: int, world_size: int, root: str, stage: int) -> tuple[int, int]:
    """Most memory held during a save beyond that before it, and what the files need [bytes]."""
    from smoe_ds.engine.build import build_engine
    from smoe_ds.engine.checkpoint import save_checkpoint
    from smoe_ds.engine.fragments import ensure_moments

    join_gloo()
    config: dict[str, Any] = {
        "train_batch_size": world_size,
        "steps_per_print": None,
        "optimizer": {"type": "Adam", "params": {"lr": 1e-3}},
        "zero_optimization": {"stage": stage, "reduce_bucket_size": 1 << 20},
    }
    engine = build_engine(_Wide(), config)
    ensure_moments(engine)
    for state in engine.basic_optimizer.state.values():  # pages that were never written to take no memory yet
        state["exp_avg"].fill_(1.0)
        state["exp_avg_sq"].fill_(2.0)
    save_checkpoint(engine, Path(root), 1, {}, keep_last=1)  # what is imported once is no part of it
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status("VmRSS")
    save_checkpoint(engine, Path(root), 2, {}, keep_last=1)
    return _status("VmHWM") - before, sum(f.stat().st_size for f in Path(root).glob("*/*.safetensors"))


def _status(key: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) << 10


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak of a process from /proc")
@pytest.mark.parametrize(("world_size", "stage"), [(1, 0), (2, 1)])
def test_memory_beyond_the_state_is_bounded(tmp_path: Path, world_size: int, stage: int) -> None:
    for peak, written in run_ranks(_peak_of_a_save, world_size, str(tmp_path), stage, timeout=200):
        assert written > 3 * 4 * ELEMENTS
        assert peak < BOUND + NOISE < 4 * ELEMENTS, f"{peak / 2**20:.0f} MiB"


def test_the_stated_bound_is_the_document_s() -> None:
    document = (ROOT / "smoe_ds" / "checkpoints" / "CHECKPOINTS.md").read_text(encoding="utf-8")
    assert f"{BOUND >> 20} MiB" in document


def test_pieces_that_wait_are_held_back(tmp_path: Path) -> None:
    """A disk that is faster than the hash does not fill the memory with pieces."""
    part = PartFile(tmp_path / "part", [("a", (1 << 22,))], {})
    queue = part._hash._pieces
    assert queue.maxsize == WAITING
    for _ in range(64):
        part.append("a", torch.zeros(1 << 16))
        assert queue.qsize() <= WAITING
    assert part.close().bytes == (tmp_path / "part").stat().st_size
