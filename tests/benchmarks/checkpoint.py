"""What a checkpoint costs: ``python -m tests.benchmarks.checkpoint``.

A save against the same bytes in plain safetensors files on the same disk, forced to it; a check of the saved
checkpoint against reading and hashing its bytes. Every rank writes its own part in both. All four run interleaved, one
of each per round; a rank's time of a round is that of the slowest rank, processor time that of all together.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.measure import ratio, report
from tests.helpers.ranks import run_ranks

CANDIDATES = ("save", "plain", "verify", "read_hash")


def make_engine(rank: int, ep_size: int, stage: int, mib: int) -> Any:
    """An engine of about so many MiB of checkpoint per rank: a large embedding, experts, small vectors."""
    import deepspeed

    from smoe_ds.config.model import ModelConfig
    from smoe_ds.config.moe import MoeConfig
    from smoe_ds.engine.adapter import build_model
    from smoe_ds.engine.build import build_engine

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)
    world_size = torch.distributed.get_world_size()
    elements = mib * world_size * 2**20 // 12  # a weight and two moments of four bytes each
    width = max(16, int((elements / 160) ** 0.5) // 16 * 16)
    sizes = ModelConfig(d_model=width, d_ffn=4 * width, num_heads=2, encoder_layers=2, decoder_layers=2)
    model = build_model(
        sizes, MoeConfig(strata=[2, 2], ep_size=ep_size), 40 * width, seed=1, rank=rank, check_finite=False
    )
    config = {
        "train_batch_size": world_size,
        "train_micro_batch_size_per_gpu": 1,
        "steps_per_print": None,
        "optimizer": {"type": "Adam", "params": {"lr": 1e-3}},
        "zero_optimization": {"stage": stage},
    }
    return build_engine(model, config)


def plain_state(engine: Any) -> list[dict[str, torch.Tensor]]:
    """What this rank writes, as two ready dictionaries for safetensors: weights, moments."""
    from smoe_ds.engine.fragments import MASTER
    from smoe_ds.engine.state import gather_state

    pieces: dict[bool, dict[str, list[torch.Tensor]]] = {True: {}, False: {}}
    for name, key, piece in gather_state(engine):
        pieces[key == MASTER].setdefault(f"{key}/{name}", []).append(piece.clone())
    return [{name: torch.cat(parts) for name, parts in pieces[kind].items()} for kind in (True, False)]


def write_plain(folder: Path, state: list[dict[str, torch.Tensor]], rank: int) -> None:
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    for number, tensors in enumerate(state):
        path = folder / f"{number}-{rank}.safetensors"
        save_file(tensors, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())


def read_and_hash(folder: Path, rank: int, world_size: int) -> None:
    for path in sorted(folder.iterdir())[rank::world_size]:
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while block := file.read(1 << 20):
                digest.update(block)


def measure_rank(
    rank: int, world_size: int, folder: str, setup: tuple[int, int, int], repeats: int
) -> tuple[int, dict[str, list[float]]]:
    """Bytes that this rank writes, and its seconds by candidate and round; the first round does not count."""
    import torch.distributed as dist

    from smoe_ds.engine.checkpoint import save_checkpoint, verify_together

    ep_size, stage, mib = setup
    engine = make_engine(rank, ep_size, stage, mib)
    state = plain_state(engine)
    saved, plain, kept = Path(folder) / "saved", Path(folder) / "plain", Path(folder) / "kept"
    step = save_checkpoint(engine, kept, 1, {}, keep_last=1)
    candidates: dict[str, Callable[[], object]] = {
        "save": lambda: save_checkpoint(engine, saved, 1, {}, keep_last=1),
        "plain": lambda: write_plain(plain, state, rank),
        "verify": lambda: verify_together(step),
        "read_hash": lambda: read_and_hash(step, rank, world_size),
    }
    order, shuffle = list(candidates), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in (*candidates, *(f"{name}_cpu" for name in candidates))}
    for round_number in range(repeats + 1):
        shuffle.shuffle(order)
        for name in order:
            if rank == 0 and name in ("save", "plain"):  # removing the older one is no part of a save
                shutil.rmtree(saved if name == "save" else plain, ignore_errors=True)
                os.sync()
            dist.barrier()
            began, worked = time.perf_counter(), time.process_time()
            problem = candidates[name]()
            worked = time.process_time() - worked
            dist.barrier()
            if round_number:
                times[name].append(time.perf_counter() - began)
                times[f"{name}_cpu"].append(worked)
            assert name != "verify" or problem is None, problem
    return sum(tensor.nbytes for tensors in state for tensor in tensors.values()), times


def measure(world_size: int, ep_size: int, stage: int, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="checkpoint-benchmark-") as folder:
        by_rank = run_ranks(
            measure_rank, world_size, folder, (ep_size, stage, args.mib), args.repeats, timeout=args.timeout
        )
    times = {
        name: [max(of_rank) for of_rank in zip(*(t[name] for _, t in by_rank), strict=True)] for name in CANDIDATES
    }
    worked = {
        name: [sum(of_rank) for of_rank in zip(*(t[f"{name}_cpu"] for _, t in by_rank), strict=True)]
        for name in CANDIDATES
    }
    save, verify = ratio(times, "save", "plain"), ratio(times, "verify", "read_hash")
    return {
        "world_size": world_size,
        "ep_size": ep_size,
        "stage": stage,
        "mib": sum(size for size, _ in by_rank) / 2**20,
        "most_of_a_rank": max(size for size, _ in by_rank) * world_size / sum(size for size, _ in by_rank),
        **{f"{name}_ms": 1e3 * statistics.median(times[name]) for name in CANDIDATES},
        **{f"{name}_cpu_ms": 1e3 * statistics.median(worked[name]) for name in ("save", "plain")},
        "save_over_plain": save["median"],
        "save_quartiles": f"{save['q1']:.2f}-{save['q3']:.2f}",
        "verify_over_read_hash": verify["median"],
        "verify_quartiles": f"{verify['q1']:.2f}-{verify['q3']:.2f}",
    }


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.checkpoint", description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="bytes of a checkpoint per rank [MiB]")
    parser.add_argument("--world-size", type=int, nargs="+", default=[1, 2], help="ranks")
    parser.add_argument("--stage", type=int, nargs="+", default=[0, 1], help="ZeRO stages")
    parser.add_argument("--repeats", type=int, default=7, help="rounds that count")
    parser.add_argument("--folder", help="on the disk to measure; default: the folder for temporary files")
    parser.add_argument("--timeout", type=float, default=600, help="of one row [s]")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    rows = []
    for world_size in args.world_size:
        for stage in args.stage:
            rows.append(measure(world_size, world_size, stage, args))
            print(rows[-1], flush=True)
    report("checkpoint", rows, args.json)
    return rows


if __name__ == "__main__":
    main()
