"""Interleaved timing, peak memory and tables for the benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from smoe_ds.parallel.device import device_of
from smoe_ds.parallel.env import Env
from smoe_ds.parallel.launchers import discover
from smoe_ds.parallel.process_group import init_distributed, with_meeting_point


def parse_timing(parser: argparse.ArgumentParser, argv: Sequence[str] | None, *, repeats: int) -> argparse.Namespace:
    """Adds what every timing of a layer takes, parses, and sets accelerator and threads accordingly."""
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds that count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: processor time, see measure.py")
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    if args.device == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    torch.set_num_threads(args.threads)
    return args


def one_rank() -> tuple[Env, torch.device]:
    """This process, with its process group, and its device."""
    env = with_meeting_point(discover())
    device = device_of(env)
    return init_distributed(env, device, timeout=600), device


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock sees its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    candidates: dict[str, Callable[[], object]], repeats: int, device: torch.device, clock: str = "wall"
) -> dict[str, list[float]]:
    """Seconds of each candidate, one run of each per round in random order, after one round that does not count.

    Args:
        candidates: what to run, by name.
        repeats: rounds that count.
        device: device to wait for.
        clock: ``wall``, or ``cpu``: processor time of this process, which other work on the machine disturbs less (with
            one thread; threads that wait for each other are counted as working).
    """
    now = time.perf_counter if clock == "wall" else time.process_time
    order, shuffle = list(candidates), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for round_number in range(repeats + 1):
        shuffle.shuffle(order)
        for name in order:
            synchronize(device)
            began = now()
            candidates[name]()
            synchronize(device)
            if round_number:
                times[name].append(now() - began)
    return times


def ratio(times: dict[str, list[float]], name: str, to: str) -> dict[str, float]:
    """Median and quartiles of the rounds' ratios."""
    ratios = [a / b for a, b in zip(times[name], times[to], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return {"median": middle, "q1": low, "q3": high}


def peak_memory(run: Callable[[], object], device: torch.device) -> int:
    """Bytes that ``run`` holds at its peak beyond what was there before, as the allocator sees it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows with the same keys as an aligned table; floats with three digits after the point."""

    def text(value: Any) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    columns = list(rows[0])
    cells = [columns, *([text(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def report(title: str, rows: Sequence[dict[str, Any]], file: str | None) -> None:
    """Print the table, and write the rows as JSON if a file is named."""
    print(f"{title}; torch {torch.__version__}, {torch.get_num_threads()} threads\n{table(rows)}\n", flush=True)
    if file is not None:
        Path(file).write_text(json.dumps(list(rows), indent=1) + "\n", encoding="utf-8")
