"""``smoe-ds score RUN --pair src-tgt FILES``: how likely a model finds given translations, one line for each pair."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_model_arguments
from smoe_ds.cli.messages import note
from smoe_ds.cli.open_model import note_untrained_direction, open_run
from smoe_ds.cli.values import positive

if TYPE_CHECKING:
    from smoe_ds.decode.load import TrainedModel
    from smoe_ds.decode.score_text import TextPairs
    from smoe_ds.decode.translator import Translator

HELP = "log-probability and perplexity of given translations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = (
        "Stdout has one line per sentence pair, in the order of the text: log-probability [nat], perplexity, and "
        "tokens of the target with the end of sentence, separated by tabs; 0, 1 and 0 where both lines are "
        "empty. Stderr has the totals of each direction."
    )
    add_model_arguments(parser, search=False)
    parser.add_argument(
        "--pair",
        dest="pairs",
        action="append",
        nargs="+",
        required=True,
        metavar=("SRC-TGT", "FILE"),
        help="direction, for example eng-nso, and its text: a file of sources and a file of their translations, or one "
        "TSV file with both on each line; may be repeated",
    )
    parser.add_argument(
        "--chunk", type=positive, default=1000, metavar="N", help="pairs to score at a time (default: 1000)"
    )


def run(args: argparse.Namespace) -> int:
    """Scores every pair; all text is read before the model is."""
    from smoe_ds.decode.score_text import read_pairs
    from smoe_ds.parallel.threads import choose_threads

    choose_threads(1)
    folder = open_run(args)
    texts = [read_pairs(direction, [Path(file) for file in files]) for direction, *files in args.pairs]
    for text in texts:
        _check_languages(folder, text)
    translator = folder.translator(folder.checkpoint(args.checkpoint))
    for text in texts:
        _score(translator, text, args.chunk)
    return 0


def _check_languages(folder: TrainedModel, text: TextPairs) -> None:
    folder.check_languages(text.source_language, text.target_language)
    folder.tokenizer.language_id(text.source_language)
    note_untrained_direction("score", folder, text.source_language, text.target_language)


def _score(translator: Translator, text: TextPairs, chunk: int) -> None:
    from smoe_ds.decode.score_text import PairScore, score_pairs

    log_prob, tokens = 0.0, 0
    for score in score_pairs(translator, text, chunk):
        print(f"{score.log_prob:.6f}\t{score.perplexity:.6g}\t{score.tokens}")
        log_prob, tokens = log_prob + score.log_prob, tokens + score.tokens
    sys.stdout.flush()
    note(
        "score",
        f"{text.direction}: {len(text.sources)} sentences, {tokens} tokens, log-probability {log_prob:.4f}, "
        f"perplexity {PairScore(log_prob, tokens).perplexity:.6g}",
    )
