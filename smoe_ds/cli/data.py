"""``smoe-ds data check|show|stats DIR``: is a prepared corpus whole, what is in it, what will a run see of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smoe_ds.cli import data_stats
from smoe_ds.cli.arguments import add_action
from smoe_ds.cli.values import positive
from smoe_ds.data.splits import SPLITS
from smoe_ds.errors import DataError

HELP = "check a prepared corpus, show its sentences, and see what a run will read of it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's own commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    check = _action(
        actions,
        "check",
        "check every byte against the manifest; the exit code is 2 if anything is wrong. Then say which held-out "
        "sentences the vocabulary spells in another way",
    )
    check.add_argument(
        "--threads", type=positive, metavar="N", help="files to read at the same time (default: one per processor)"
    )
    show = _action(actions, "show", "show a sentence pair: its text, pieces and ids, and where they are stored")
    show.add_argument("direction", metavar="SRC-TGT", help="for example eng-nso; either direction of a pair will do")
    show.add_argument("--at", type=int, default=0, metavar="N", help="which sentence, counted from 0 (default: 0)")
    show.add_argument("--split", choices=SPLITS, default="train", help="which part of the corpus (default: train)")
    data_stats.add_arguments(_action(actions, "stats", data_stats.HELP))


def run(args: argparse.Namespace) -> int:
    """Runs one action."""
    return _ACTIONS[args.action](args)


def _action(actions: argparse._SubParsersAction[Any], name: str, text: str) -> argparse.ArgumentParser:
    parser = add_action(actions, name, text)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder that python -m data_prep wrote")
    return parser


def _check(args: argparse.Namespace) -> int:
    from smoe_ds.data.check_corpus import check_corpus
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.data.round_trip import held_out_round_trip
    from smoe_ds.report.byte_progress import ByteProgress
    from smoe_ds.report.corpus import check_text
    from smoe_ds.report.round_trip import round_trip_text

    progress = ByteProgress(sys.stderr)
    found = check_corpus(args.folder, threads=args.threads, progress=progress.add)
    progress.end()
    if found.damage:
        raise DataError(check_text(found))
    print(check_text(found))
    corpus = Corpus(args.folder, verify=False)
    print(round_trip_text(corpus.tokenizer.normalization, held_out_round_trip(corpus)))
    return 0


def _show(args: argparse.Namespace) -> int:
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.data.located_pair import locate_pair
    from smoe_ds.report.corpus import pair_page

    corpus = Corpus(args.folder, verify=False)
    print(pair_page(locate_pair(corpus, args.split, args.direction, args.at)).text())
    return 0


_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {"check": _check, "show": _show, "stats": data_stats.run}
