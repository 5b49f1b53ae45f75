"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from smoe_ds.cli.values import checkpoint_name, positive
from smoe_ds.config.number_formats import DECODING_DTYPES


def add_action(actions: argparse._SubParsersAction[Any], name: str, text: str) -> argparse.ArgumentParser:
    """Adds a command of a command, e.g. ``ls`` of ``smoe-ds checkpoint``; returns its parser.

    Args:
        actions: what ``add_subparsers`` gave.
        name: of the command.
        text: what it does, beginning with a small letter.
    """
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def add_run_arguments(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Adds what names a run: its file (``run_file``), and overrides of single keys (``overrides``)."""
    parser.add_argument(
        "run_file",
        metavar="RUN.json",
        nargs="?" if optional else None,
        help="run file, for example ds_configs/quickstart.json",
    )
    add_overrides(
        parser,
        "change one key of the run, for example smoe.moe.strata=[4,12]; extends=engine/cpu_fp32.json swaps the engine "
        "(the path is relative to RUN.json); may be repeated",
    )


def add_overrides(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds ``--set KEY=VALUE`` (``overrides``) with its help text."""
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=text)


def add_local_rank(parser: argparse.ArgumentParser) -> None:
    """Takes the ``--local_rank`` that the deepspeed launcher adds to every process; the environment says the same."""
    parser.add_argument("--local_rank", type=int, default=None, help=argparse.SUPPRESS)


def add_trained_model(parser: argparse.ArgumentParser) -> None:
    """Adds what names a trained model (``run_dir``)."""
    parser.add_argument(
        "run_dir",
        type=Path,
        metavar="RUN",
        help="run folder, a checkpoint in it (RUN/checkpoints/step_N), or an exported model",
    )


def add_model_arguments(parser: argparse.ArgumentParser, *, search: bool = True) -> None:
    """Adds what names a trained model and how it decodes; beam search is left out where a command does none."""
    add_trained_model(parser)
    add_checkpoint(parser)
    if search:
        _add_search(parser)
    else:
        parser.set_defaults(beam=None, length_penalty=None)
    parser.add_argument(
        "--dtype",
        choices=DECODING_DTYPES,
        default="float32",
        help="number format to compute in (default: float32); int8: weights in 8 bits, for --device cpu; in all but "
        "float32 a translation can depend on which other sentences are in its batch (--chunk, smoe.decode.max_tokens), "
        "since other sizes round differently",
    )
    add_device(parser, "where to compute")
    add_overrides(parser, "change one key of the run, for example smoe.decode.max_tokens=2048; may be repeated")


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beam",
        type=positive,
        metavar="N",
        help="beam size: hypotheses kept per sentence (default: smoe.decode.beam_size of the run)",
    )
    parser.add_argument(
        "--length-penalty",
        type=float,
        metavar="A",
        help="score hypotheses by log-probability / length^A (default: smoe.decode.length_penalty of the run)",
    )


def add_device(parser: argparse.ArgumentParser | argparse._ArgumentGroup, what: str) -> None:
    """Adds ``--device``."""
    parser.add_argument("--device", choices=["cpu", "cuda"], help=f"{what} (default: cuda if there is a GPU, else cpu)")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds ``--checkpoint``: which one of a run."""
    parser.add_argument(
        "--checkpoint",
        type=checkpoint_name,
        default="best",
        metavar="WHICH",
        help="best (lowest validation loss), last, or the number of a step (default: best)",
    )


def add_output_run(parser: argparse.ArgumentParser) -> None:
    """Adds ``--output`` of commands that write a run folder of weights."""
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="new run folder with one checkpoint, which holds only weights; use it with translate, evaluate or export, "
        "or smoe.train.init_from",
    )


def add_directions(parser: argparse.ArgumentParser | argparse._ArgumentGroup, text: str) -> None:
    """Adds ``--directions`` with its help text, and ``--data``: the corpus that has them."""
    parser.add_argument("--directions", metavar="A-B,...", help=text)
    parser.add_argument("--data", type=Path, metavar="DIR", help="prepared corpus (default: smoe.data.path of the run)")
