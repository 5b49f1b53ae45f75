"""Ready batches of this project's stream and of other loaders: ``python -m tests.benchmarks.data``.

Each loader does the same job on the same sentences (see `tests.benchmarks.data_peers`), without worker processes, in a
process of its own; processes take turns in random order, and medians over the rounds are given. Tokens are real tokens
of source and target; "per core" is per second of the process's time on a processor, all threads together, which other
load on the machine moves less than the clock. Time to the first batch and to resume is by the clock, from the opened
files on, in a process that has read nothing so far; "-": it has no way back, or needs longer than the limit. Memory is
all that is resident in the process, torch too: at most, at the end, and of the latter what came after ``import torch``.

    python -m tests.benchmarks.data --loaders stream --sentences 25000000 --holes

The other loaders are for the benchmark only, and one of them replaces torch: install them in an environment of their
own and run the benchmark with its Python; loaders that are not installed are left out.

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install torch mosaicml-streaming torchdata datasets pydantic hjson psutil
    /tmp/peers/bin/python -m tests.benchmarks.data
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import report
from tests.helpers.environment import ROOT

MODULES = {"stream": "smoe_ds", "torchdata": "torchdata", "streaming": "streaming", "datasets": "datasets"}
STEPS = (10, 10_000, 1_000_000)


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.data", description=__doc__)
    parser.add_argument("--data", type=Path, help="a prepared corpus; default: invented shards of 94 pairs")
    parser.add_argument("--sentences", type=int, default=200_000, help="pairs to invent")
    parser.add_argument("--holes", action="store_true", help="invent offset tables only: for tens of millions of pairs")
    parser.add_argument("--loaders", nargs="+", choices=list(MODULES), default=list(MODULES))
    parser.add_argument("--seconds", type=float, default=5.0, help="processor time of a run [s]")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--limit", type=float, default=60.0, help="longest time to resume [s]")
    parser.add_argument("--json", help="file for the rows")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--step", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker is not None:
        print(json.dumps(_worker(args)), flush=True)
        return []
    with tempfile.TemporaryDirectory(prefix="data-benchmark-") as folder:
        args.work = Path(folder)
        if args.data is None:
            from tests.benchmarks.data_corpus import write_holes, write_pairs

            args.data = args.work / "shards"
            (write_holes if args.holes else write_pairs)(args.data, args.sentences)
        return _compare(args)


def _compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    names = [name for name in args.loaders if importlib.util.find_spec(MODULES[name])]
    for name in sorted(set(args.loaders) - set(names)):
        print(f"{name}: not installed, left out")
    for name in names:
        _run(args, name, "prepare")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    order, shuffle = list(names), random.Random(0)
    for _ in range(args.repeats):
        shuffle.shuffle(order)
        for name in order:
            found = _run(args, name, "read")
            assert found is not None
            runs[name].append(found)
    rows = [_row(name, runs[name], runs, args) for name in names]
    report(f"loaders, {args.data}", rows, args.json)
    return rows


def _row(
    name: str, own: list[dict[str, float]], runs: dict[str, list[dict[str, float]]], args: argparse.Namespace
) -> dict[str, Any]:
    """One loader's line; its ratio is to the stream in the same round."""
    middle = {key: statistics.median(run[key] for run in own) for key in own[0]}
    row: dict[str, Any] = {"loader": name, "tokens/s/core (M)": middle["rate"] / 1e6}
    if "stream" in runs:
        ratios = [ours["rate"] / theirs["rate"] for ours, theirs in zip(runs["stream"], own, strict=True)]
        row["stream over it"] = statistics.median(ratios)
        row["least to most"] = f"{min(ratios):.2f}-{max(ratios):.2f}"
    row |= {"packing": middle["packing"], "first batch (s)": middle["first"]}
    for step in STEPS:
        times = [_run(args, name, "resume", step) for _ in range(min(3, args.repeats))]
        known = [found["first"] for found in times if found is not None]
        row[f"resume at {step} (s)"] = statistics.median(known) if len(known) == len(times) else "-"
    return row | {
        "peak (MiB)": middle["peak"],
        "resident (MiB)": middle["resident"],
        "without torch (MiB)": middle["own"],
    }


def _run(args: argparse.Namespace, name: str, task: str, step: int = 0) -> dict[str, float] | None:
    """What a worker found; None if it cannot resume, or not in time."""
    command = [sys.executable, "-m", "tests.benchmarks.data", "--worker", f"{name}:{task}", "--step", str(step)]
    command += ["--data", str(args.data.absolute()), "--work", str(args.work), "--seconds", str(args.seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    limit = args.limit if task == "resume" else None
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise SystemExit(f"{name} ({task}) failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    found: dict[str, float] | None = json.loads(done.stdout.splitlines()[-1])
    return found


def _worker(args: argparse.Namespace) -> dict[str, float] | None:
    """One loader in this process: writes its files, reads, or resumes."""
    import torch

    torch.set_num_threads(1)
    held = _resident("VmRSS")
    from tests.benchmarks.data_corpus import open_pairs
    from tests.benchmarks.data_peers import LOADERS

    name, task = args.worker.split(":")
    loader = LOADERS[name](open_pairs(args.data), args.work)
    if task == "prepare" or (args.step and not loader.resumes):
        return None
    first, source = _first_batch(loader, args.step)
    if task == "resume":
        return {"first": first}
    tokens = padded = 0
    began = time.process_time()
    while time.process_time() - began < args.seconds:
        for batch in itertools.islice(source, 20):
            tokens, padded = tokens + batch.tokens, padded + batch.padded
    spent = time.process_time() - began
    resident = _resident("VmRSS")
    memory = {"peak": _resident("VmHWM"), "resident": resident, "own": resident - held}
    return {"rate": tokens / spent, "packing": tokens / padded, "first": first, **memory}


def _first_batch(loader: Any, step: int) -> tuple[float, Any]:
    """Seconds to the first batch from a step on, and the batches after it."""
    prepare = getattr(loader, "prepare", None)
    if prepare is not None:
        prepare(step)
    began = time.perf_counter()
    source = iter(loader.batches(step))
    next(source)
    return time.perf_counter() - began, source


def _resident(line: str) -> float:
    """Resident memory of this process [MiB], now (``VmRSS``) or at most so far (``VmHWM``)."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(int(words[1]) / 1024 for words in lines if words[0] == f"{line}:")


if __name__ == "__main__":
    main()
