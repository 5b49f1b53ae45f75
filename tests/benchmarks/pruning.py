"""What leaving out experts costs in BLEU: ``python -m tests.benchmarks.pruning``.

A small model is trained on invented languages (word-by-word ciphers of English, six directions), then exported with
fewer and fewer experts by ``smoe-ds export --keep-experts``, for all directions and for one; experts are chosen on
validation text, BLEU is that of the test text, before and after. The languages are far easier than real ones and the
model is small: the figures say how the measurement behaves, not what a large model would lose.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import report
from tests.helpers.prepared import small_corpus
from tests.helpers.small_run import small_run, write_run

LANGUAGES = ("nso", "cat", "rus")


def smoe_ds(*arguments: str) -> None:
    """A command in a process of its own; what it prints is shown only if it fails."""
    done = subprocess.run([sys.executable, "-m", "smoe_ds", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def train(folder: Path, steps: int) -> Path:
    """The run folder of a small model with eight experts in each of its four layers."""
    run = small_run(
        folder / "run", small_corpus(folder, LANGUAGES, 600).path, max_steps=steps, warmup_steps=100, log_every=100
    )
    run["smoe"]["train"] |= {"validate_every": 100, "checkpoint_every": steps}
    run["smoe"]["model"] |= {"d_model": 64, "d_ffn": 128, "dropout": 0.0, "attention_dropout": 0.0}
    run["smoe"]["moe"] |= {"strata": [4, 4], "every": 1, "capacity_factor": None}
    run["smoe"]["data"]["max_tokens"] = 1024
    run |= {"train_batch_size": 1}
    run["optimizer"]["params"]["lr"] = 5e-3
    smoe_ds("train", str(write_run(folder / "run.json", run)))
    return folder / "run"


def prune(run: Path, folder: Path, keep: int, directions: str) -> dict[str, Any]:
    """A row: the mean BLEU of the directions before and after, and what share of the experts is kept."""
    output = folder / f"keep-{keep}-{directions.replace(',', '+') or 'all'}"
    chosen = ["--directions", directions] if directions else []
    smoe_ds("export", str(run), "--output", str(output), "--keep-experts", str(keep), *chosen)
    scores = json.loads((output / "pruning_scores.json").read_text())["directions"].values()
    return {
        "directions": directions or "all",
        "keep": keep,
        "of": 8,
        "MiB": sum(file.stat().st_size for file in output.glob("*.safetensors")) / 2**20,
        "bleu_whole": sum(row["whole"]["bleu"] for row in scores) / len(scores),
        "bleu_pruned": sum(row["pruned"]["bleu"] for row in scores) / len(scores),
    }


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pruning", description=__doc__)
    parser.add_argument("--steps", type=int, default=800, help="of training")
    parser.add_argument("--keep", type=int, nargs="+", default=[7, 6, 5, 4], help="experts kept of each block's 8")
    parser.add_argument("--directions", nargs="+", default=["", "eng-nso"], help='"" for all, or names with commas')
    parser.add_argument("--run", type=Path, help="run folder of an earlier training, instead of a new one")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="pruning-benchmark-") as folder:
        run = args.run or train(Path(folder), args.steps)
        rows = [prune(run, Path(folder), keep, names) for names in args.directions for keep in args.keep]
    report("pruning", rows, args.json)
    return rows


if __name__ == "__main__":
    main()
