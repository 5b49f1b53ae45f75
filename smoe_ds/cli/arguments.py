"""Arguments that several commands take, and what their values may be."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_run_arguments(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Adds what names a run: its file (``run_file``), and overrides of single keys (``overrides``)."""
    parser.add_argument(
        "run_file",
        metavar="RUN.json",
        nargs="?" if optional else None,
        help="run file, e.g. ds_configs/quickstart.json",
    )
    add_overrides(
        parser,
        "override one key, e.g. smoe.moe.strata=[4,12]; extends=engine/cpu_fp32.json swaps the engine "
        "(relative to RUN.json); may be repeated",
    )


def add_overrides(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds ``--set KEY=VALUE`` (``overrides``) with its help text."""
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=text)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what names a trained model and how it decodes."""
    parser.add_argument(
        "run_dir",
        type=Path,
        metavar="RUN",
        help="run folder, a checkpoint RUN/checkpoints/step_N, or what smoe-ds export wrote",
    )
    add_checkpoint(parser)
    parser.add_argument("--beam", type=positive, metavar="N", help="hypotheses kept per sentence")
    parser.add_argument("--length-penalty", type=float, metavar="A", help="score = log-probability / length^A")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: the GPU if there is one")
    add_overrides(parser, "override one key of the run, e.g. smoe.decode.max_tokens=2048; may be repeated")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, 1 or more")
    return int(text)


def checkpoint_name(text: str) -> str | int:
    """``best``, ``last`` or a step."""
    if text.isdecimal():
        return int(text)
    if text not in ("best", "last"):
        raise argparse.ArgumentTypeError(f"{text}: expected best, last or the number of a step")
    return text


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds ``--checkpoint``: which one of a run."""
    parser.add_argument(
        "--checkpoint",
        type=checkpoint_name,
        default="best",
        metavar="WHICH",
        help="best (by validation loss, default), last, or a step",
    )
