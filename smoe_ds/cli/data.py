"""``smoe-ds data check|show|stats DIR``: is a prepared corpus whole, what is in it, what will a run see of it."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from smoe_ds.cli.arguments import add_overrides, positive
from smoe_ds.errors import ConfigError, DataError

if TYPE_CHECKING:
    from smoe_ds.config.data import DataConfig
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.data.corpus_stats import CorpusStats
    from smoe_ds.data.parallel_sentences import Side

HELP = "check a prepared corpus, show its sentences, count what a run will see of it"
_SPLITS = ("train", "valid", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's own commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    check = _action(
        actions,
        "check",
        "compare every byte of every file with the manifest, exit code 2 for any damage; "
        "then held-out text with what its ids give back",
    )
    check.add_argument(
        "--threads", type=positive, metavar="N", help="files read at a time (default: one per processor)"
    )
    show = _action(actions, "show", "print a sentence pair: text, pieces, ids, and where they are")
    show.add_argument("direction", metavar="SRC-TGT", help="e.g. eng-nso; the pair's other direction will do as well")
    show.add_argument("--at", type=int, default=0, metavar="N", help="number of the sentence, from 0 (default 0)")
    show.add_argument("--split", choices=_SPLITS, default="train", help="default: train")
    stats = _action(actions, "stats", "print size, sampling share and epochs of every direction")
    stats.add_argument("--run", metavar="RUN.json", help="take mixture and batches from a run file")
    add_overrides(stats, "override one key of RUN.json; may be repeated")
    stats.add_argument("--temperature", type=float, metavar="T", help="sampling temperature (default 1)")
    stats.add_argument("--max-tokens", type=positive, metavar="N", help="tokens of a micro-batch (default 8192)")
    stats.add_argument(
        "--micro-batches", type=positive, metavar="K", help="micro-batches of a step over all ranks (default 1)"
    )
    stats.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Runs one action."""
    return _ACTIONS[args.action](args)


def _action(actions: argparse._SubParsersAction[Any], name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder written by `python -m data_prep`")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _check(args: argparse.Namespace) -> int:
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.data.manifest import read_manifest, shard_files
    from smoe_ds.data.round_trip import held_out_round_trip
    from smoe_ds.data.verify import find_damage
    from smoe_ds.report.round_trip import round_trip_text

    manifest = read_manifest(args.folder)
    sizes = [entry["bytes"] for _, entry in shard_files(manifest)]
    progress = _Progress(sum(sizes))
    damage = find_damage(args.folder, manifest, threads=args.threads, progress=progress.add)
    progress.end()
    if damage:
        raise DataError(
            "\n".join(
                [*damage, f"{args.folder}: {len(damage)} problems; restore the files or prepare the corpus again"]
            )
        )
    pairs = sum(entry["sentences"] for split in manifest["splits"].values() for entry in split.values())
    print(f"{args.folder}: {len(sizes):,} files, {sum(sizes):,} bytes, {pairs:,} sentence pairs: all as written")
    corpus = Corpus(args.folder, verify=False)
    print(round_trip_text(corpus.tokenizer.normalization, held_out_round_trip(corpus)))
    return 0


class _Progress:
    """Says on stderr, every few seconds, how much was read."""

    _INTERVAL = 5.0

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._last = time.monotonic()
        self._on_line = False
        self._lock = Lock()

    def add(self, count: int) -> None:
        """Called from many threads."""
        with self._lock:
            self._done += count
            if time.monotonic() - self._last < self._INTERVAL:
                return
            self._last = time.monotonic()
            text = f"checked {self._done / 1e9:.2f} of {self._total / 1e9:.2f} GB"
            self._on_line = sys.stderr.isatty()
            print(
                f"\r{text}" if self._on_line else text, end="" if self._on_line else "\n", file=sys.stderr, flush=True
            )

    def end(self) -> None:
        """Ends a line that was rewritten."""
        if self._on_line:
            print(file=sys.stderr)


def _show(args: argparse.Namespace) -> int:
    from smoe_ds.data.corpus import Corpus

    corpus = Corpus(args.folder, verify=False)
    sentences = corpus.sentences(args.split, args.direction)
    if not 0 <= args.at < len(sentences):
        there = f"sentences 0 to {len(sentences) - 1}" if len(sentences) else "no sentence"
        raise DataError(f"--at {args.at}: {args.direction} has {there} in {args.split} of {args.folder}")
    lines = [f"{args.direction}: sentence {args.at} of {len(sentences):,} in {args.split}"]
    for language, side in ((sentences.src_language, sentences.src), (sentences.tgt_language, sentences.tgt)):
        lines += ["", f"{language}: {_sentence(corpus, side, args.at)}"]
    print("\n".join(lines))
    return 0


def _sentence(corpus: Corpus, side: Side, number: int) -> str:
    import numpy as np

    shard, row = side.place(number)
    ids = shard.read(np.array([row])).values.tolist()
    spelling = corpus.tokenizer.vocabulary()
    (start,), (stop,) = (bound.tolist() for bound in shard.bounds(np.array([row])))
    lines = [
        corpus.tokenizer.decode(ids),
        f"  pieces: {' '.join(spelling[index][0] for index in ids)}",
        f"  ids:    {' '.join(map(str, ids))}",
        f"  from:   {shard.token_file.relative_to(corpus.path)}, sentence {row}, ids {start} to {stop - 1}, "
        f"byte offset {start * shard.id_bytes}",
    ]
    return "\n".join(lines)


def _stats(args: argparse.Namespace) -> int:
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.data.corpus_stats import corpus_stats

    config, seed, max_positions, micro_batches = _settings(args)
    stats = corpus_stats(
        Corpus(args.folder, verify=False),
        config,
        seed=seed,
        max_positions=max_positions,
        micro_batches_per_step=micro_batches,
    )
    settings = {"temperature": config.temperature, "max_tokens": config.max_tokens, "micro_batches": micro_batches}
    if args.json:
        print(json.dumps({"path": str(args.folder), **settings, "totals": _totals(stats), **asdict(stats)}, indent=1))
    else:
        print(_text(stats, config, micro_batches, max_positions))
    return 0


def _settings(args: argparse.Namespace) -> tuple[DataConfig, int, int, int]:
    """Section ``smoe.data``, seed, longest side and micro-batches per step: of the run file, of options before it."""
    from smoe_ds.config import load_run
    from smoe_ds.config.data import DataConfig
    from smoe_ds.config.model import ModelConfig

    if args.temperature is not None and not 1 <= args.temperature < math.inf:
        raise ConfigError(f"--temperature {args.temperature}: expected 1 or more, and not inf")
    if args.overrides and args.run is None:
        raise ConfigError("--set: changes keys of a run file; name it with --run RUN.json")
    options = {"temperature": args.temperature, "max_tokens": args.max_tokens}
    given = {name: value for name, value in options.items() if value is not None}
    if args.run is None:
        config, seed, max_positions, micro_batches = (
            DataConfig(path=str(args.folder)),
            1,
            ModelConfig().max_positions,
            1,
        )
    else:
        run = load_run(args.run, args.overrides)
        config, seed = run.smoe.data, run.smoe.train.seed
        max_positions, micro_batches = run.smoe.model.max_positions, run.train_batch_size
    config = DataConfig.model_validate(config.model_dump(exclude_unset=True) | given)
    return config, seed, max_positions, args.micro_batches or micro_batches


def _totals(stats: CorpusStats) -> dict[str, int]:
    return {
        "directions": len(stats.directions),
        "sentences": sum(d.sentences for d in stats.directions),
        "src_tokens": sum(d.src_tokens for d in stats.directions),
        "tgt_tokens": sum(d.tgt_tokens for d in stats.directions),
        "too_long": sum(d.too_long for d in stats.directions),
    }


def _text(stats: CorpusStats, config: DataConfig, micro_batches: int, max_positions: int) -> str:
    from smoe_ds.report.tables import RULE, text_table

    rows = [
        [
            d.direction,
            f"{d.sentences:,}",
            f"{d.src_tokens:,}",
            f"{d.tgt_tokens:,}",
            f"{d.too_long:,}",
            f"{100 * d.share:.3f}",
            f"{d.epochs:,.2f}",
        ]
        for d in stats.directions
    ]
    totals = _totals(stats)
    whole = [f"{totals[name]:,}" for name in ("sentences", "src_tokens", "tgt_tokens", "too_long")]
    rows += [list(RULE), [f"{totals['directions']} directions", *whole, "100.000", "-"]]
    header = ["direction", "sentences", "source tokens", "target tokens", "too long", "share (%)", "epochs/100k steps"]
    return (
        f"{text_table(header, rows)}\n\n"
        f"T {config.temperature:g}, {micro_batches} micro-batches of at most {config.max_tokens:,} tokens a step: "
        f"about {stats.pairs_per_step:,.0f} sentence pairs and {stats.tokens_per_step:,.0f} tokens; "
        f"packing {100 * stats.packing:.1f} %{_padding(stats)}{_too_long(stats, config, max_positions)}"
    )


def _padding(stats: CorpusStats) -> str:
    """Advice, where more than 5 % of the micro-batches are padding."""
    if stats.packing >= 0.95:
        return ""
    return (
        f"\n\nhint: windows of {stats.window:,} pairs leave {100 * (1 - stats.packing):.1f} % padding; a larger "
        "smoe.data.window leaves less, but repeats the pairs of small directions within a micro-batch"
    )


def _too_long(stats: CorpusStats, config: DataConfig, max_positions: int) -> str:
    """A warning, where sentence pairs are never read."""
    totals = _totals(stats)
    if not totals["too_long"]:
        return ""
    whole = ", ".join(d.direction for d in stats.directions if d.too_long == d.sentences)
    return (
        f"\nwarning: {totals['too_long']:,} of {totals['sentences']:,} sentence pairs are never read"
        f"{f', among them all of {whole}' if whole else ''}: with special tokens a side exceeds "
        f"max_positions {max_positions:,}, or both exceed max_tokens {config.max_tokens:,}"
    )


_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {"check": _check, "show": _show, "stats": _stats}
