"""Predicted against measured throughput at 1, 2 and 4 ranks: ``python -m tests.benchmarks.scaling``.

For each number of ranks ``smoe-ds calibrate`` measures the constants with as many ranks at once, so that ranks which
share cores slow each other down there as in training; ``smoe-ds plan`` predicts from them; ``smoe-ds train`` trains
some steps at every ``ep_size``, over gloo on this machine. Other work on the machine only adds to a time, so the
shortest readings of the calibration are held against the training's fastest log line; ``median_ms`` is that of all.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from smoe_ds.config import load_run
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.scaling.calibrate_data import measure_sentences
from smoe_ds.scaling.collectives import Topology
from smoe_ds.scaling.constants import load_constants
from smoe_ds.scaling.predict import Prediction, predict
from tests.benchmarks.data_corpus import write_pairs
from tests.benchmarks.measure import report
from tests.helpers.environment import ROOT
from tests.helpers.prepared import small_corpus
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import scalars, small_run, train_on_rank, write_run

EVERY = 5
"""Steps between log lines."""


def calibrate_on_rank(rank: int, world_size: int, run_file: str, output: str, repeats: int) -> int:
    """``smoe-ds calibrate`` as one rank."""
    from smoe_ds.cli.main import main

    return main(["calibrate", run_file, "--output", output, "--repeats", str(repeats), "--debug"])


def write(folder: Path, corpus: Path, ep_size: int, args: argparse.Namespace) -> Path:
    """A run file; every run trains in a folder of its own."""
    lines = args.steps // EVERY + 1  # the first does not count
    run = small_run(folder / "run", corpus, max_steps=lines * EVERY, log_every=EVERY, validate_every=10**6)
    run["smoe"]["train"] |= {"checkpoint_every": 10**6, "validate_batches": 1}
    run["train_batch_size"] = args.batch
    run["zero_optimization"] = {"stage": args.zero, "reduce_bucket_size": 10**7}
    run["smoe"]["model"] |= {"d_model": args.d_model, "d_ffn": 4 * args.d_model, "num_heads": 4}
    run["smoe"]["moe"] = {"strata": args.strata, "ep_size": ep_size, "capacity_factor": None}
    run["smoe"]["moe"] |= {"load_balancing_weight": args.balance}
    run["smoe"]["data"] |= {"max_tokens": args.tokens, "window": 4096}
    folder.mkdir(parents=True)
    return write_run(folder / "run.json", run)


def measured_speed(run_folder: Path) -> list[float]:
    """Tokens per second of every log line but the first."""
    lines = scalars(run_folder)["train/tokens_per_second"]
    return [lines[step] for step in sorted(lines)[1:]]


def row(world_size: int, found: Prediction, speeds: list[float]) -> dict[str, Any]:
    """One line of the table; the error is that of the step's time."""
    fastest, middle = found.step.tokens / max(speeds), found.step.tokens / statistics.median(speeds)
    parts = {f"{name}_ms": 1e3 * seconds for name, seconds in found.step.parts.items()}
    return {
        "ranks": world_size,
        "ep_size": found.ep_size,
        "predicted_ms": 1e3 * found.step.seconds,
        "measured_ms": 1e3 * fastest,
        "error_percent": 100 * (found.step.seconds / fastest - 1),
        "median_ms": 1e3 * middle,
        **parts,
    }


def measure(world_size: int, folder: Path, corpus: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows for one number of ranks: each round calibrates once and trains at every expert-parallel size; of all rounds
    the shortest prediction is held against the fastest log line."""
    vocab_size = Tokenizer(corpus / "tokenizer.model").vocab_size
    sizes = [n for n in args.ep_size if world_size % n == 0 and sum(args.strata) % n == 0]
    predictions: dict[int, list[Prediction]] = {n: [] for n in sizes}
    speeds: dict[int, list[float]] = {n: [] for n in sizes}
    for number in range(args.rounds):
        files = {n: write(folder / f"{world_size}-{n}-{number}", corpus, n, args) for n in sizes}
        constants = folder / f"constants-{world_size}-{number}.json"
        arguments = (str(files[sizes[0]]), str(constants), args.repeats)
        run_ranks(calibrate_on_rank, world_size, *arguments, init=False, timeout=args.timeout)
        for n, file in files.items():
            found = predict(load_run(file), vocab_size, load_constants(constants), Topology(1, world_size))
            predictions[n].append(found)
            run_ranks(train_on_rank, world_size, str(file), [], init=False, timeout=args.timeout)
            speeds[n] += measured_speed(file.parent / "run")
    return [row(world_size, min(predictions[n], key=lambda one: one.step.seconds), speeds[n]) for n in sizes]


def data_row(sentences: int, folder: Path) -> dict[str, Any]:
    """How fast a core draws and reads invented pairs, 94 of them in both directions, at the settings of OPUS-100."""
    pairs = write_pairs(folder, sentences)
    run = load_run(ROOT / "ds_configs" / "opus100.json")
    found = measure_sentences(run, pairs.sentences(), pairs.language_ids())
    speeds = {f"{name}_per_second": one.line.per_second for name, one in found.constants.items()}
    return {"sentences": sentences, **speeds, "padded_share": found.padded_share, "real_share": found.real_share}


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling", description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--ep-size", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch", type=int, default=4, help="micro-batches of a step, over all ranks")
    parser.add_argument("--zero", type=int, default=1, help="ZeRO stage")
    parser.add_argument("--d-model", type=int, default=128, help="width; d_ffn is four times that")
    parser.add_argument("--strata", type=int, nargs="+", default=[4, 4], help="experts per stratum")
    parser.add_argument(
        "--balance", type=float, default=0.01, help="weight of the balance loss: plans assume even routing"
    )
    parser.add_argument("--tokens", type=int, default=2048, help="token budget of a micro-batch")
    parser.add_argument("--rounds", type=int, default=2, help="calibrations, each with its trainings")
    parser.add_argument("--steps", type=int, default=15, help="training steps that count")
    parser.add_argument("--repeats", type=int, default=5, help="readings of each constant")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for a calibration or a training")
    parser.add_argument("--data", type=int, metavar="N", help="measure drawing and reading of N sentences instead")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    if args.data is not None:
        with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
            rows = [data_row(args.data, Path(folder))]
        report("tokens per second of one core", rows, args.json)
        return rows
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        (Path(folder) / "corpus").mkdir()
        corpus = small_corpus(Path(folder) / "corpus").path
        for world_size in args.ranks:
            rows += measure(world_size, Path(folder), corpus, args)
    shown = ["ranks", "ep_size", "predicted_ms", "measured_ms", "error_percent", "median_ms"]
    report("time of a step", [{name: one[name] for name in shown} for one in rows], None)
    report(
        "predicted parts (ms)",
        [{k: v for k, v in one.items() if k == "ranks" or k.endswith("_ms")} for one in rows],
        args.json,
    )
    return rows


if __name__ == "__main__":
    main()
