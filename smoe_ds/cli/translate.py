"""``smoe-ds translate RUN --to xxx``: text on stdin, translations on stdout, one line for each line."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from smoe_ds.cli.arguments import add_model_arguments
from smoe_ds.cli.files import check_apart, check_outside
from smoe_ds.cli.messages import note
from smoe_ds.cli.open_model import note_untrained_direction, open_run
from smoe_ds.cli.values import positive

if TYPE_CHECKING:
    from smoe_ds.decode.load import TrainedModel
    from smoe_ds.decode.translation import Translation
    from smoe_ds.decode.translator import Translator

HELP = "translate text with a trained model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_model_arguments(parser)
    parser.add_argument("--to", required=True, metavar="LANG", help="language to translate into, for example cat")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="LANG",
        help="language of the input; needed if smoe.data.source_language_token is source or source_at_end; for other "
        "models you are only warned if the corpus has no training text in this direction",
    )
    parser.add_argument("--input", type=Path, metavar="FILE", help="file to read (default: stdin)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write (default: stdout)")
    parser.add_argument("--scores", action="store_true", help="write the score and a tab before each translation")
    parser.add_argument(
        "--n-best",
        type=positive,
        default=1,
        metavar="N",
        help="write the N best translations of each line, at most the beam size, as 'index ||| text ||| score' with "
        "lines counted from 0; an empty line has one empty answer (default: 1: the best alone, as plain text)",
    )
    parser.add_argument(
        "--prefix-file",
        type=Path,
        metavar="FILE",
        help="file with one line for each line of the input: what its translation begins with; an empty one leaves it "
        "free",
    )
    parser.add_argument(
        "--align",
        nargs="?",
        choices=["words", "pieces"],
        const="words",
        metavar="WHAT",
        help="(write it after RUN) "
        "add a tab (in n-best lists ' ||| ') and the alignment in Pharaoh format, source-output, counted from 0: "
        "words (the same as --align alone) counts what white space parts in the input and in the output, pieces counts "
        "those of the vocabulary. A piece of the output goes with the piece of the input to which the last decoder "
        "layer attends most, and a word with all words that its pieces go with",
    )
    parser.add_argument(
        "--chunk",
        type=positive,
        default=1000,
        metavar="N",
        help="lines to read before translating them, sorted by length; 1 answers line by line (default: 1000)",
    )


def run(args: argparse.Namespace) -> int:
    """Translates until the input ends."""
    from smoe_ds.decode.lines import chunked
    from smoe_ds.parallel.threads import choose_threads

    choose_threads(1)
    folder = open_run(args)
    _check(folder, args)
    name, output = str(args.input or "stdin"), args.output or sys.stdout.buffer
    with _opened(args.input, "rb", sys.stdin.buffer) as source, _prefixes(args.prefix_file, output) as prefixes:
        check_apart(source, output, name)
        check_outside(args.output, folder.folder)
        translator = folder.translator(folder.checkpoint(args.checkpoint))
        lines = _with_prefixes(source, name, prefixes, args.prefix_file)
        chunks = chunked(lines, 1 if source.isatty() else args.chunk)
        first = list(islice(chunks, 1))  # a refused input leaves an older output as it is
        if not first:
            note("translate", f"{name}: is empty, so there is nothing to translate")
        with _opened(args.output, "wb", sys.stdout.buffer) as sink:
            _translate(translator, chain(first, chunks), sink, args)
    return 0


def _check(folder: TrainedModel, args: argparse.Namespace) -> None:
    """Refuses what cannot be done, before the weights are read."""
    from smoe_ds.decode.translator import check_n_best
    from smoe_ds.errors import DataError

    folder.check_languages(args.source, args.to)
    check_n_best(args.n_best, folder.config.smoe.decode)
    if args.scores and args.n_best > 1:
        raise DataError("--scores: --n-best writes the scores already; leave one of them out")
    if args.source:
        folder.tokenizer.language_id(args.source)
        note_untrained_direction("translate", folder, args.source, args.to)


@contextlib.contextmanager
def _prefixes(file: Path | None, output: Path | BinaryIO) -> Iterator[BinaryIO | None]:
    """The open file of prefixes, which is not the output; None without one."""
    if file is None:
        yield None
        return
    with _opened(file, "rb", sys.stdin.buffer) as stream:
        check_apart(stream, output, str(file))
        yield stream


def _with_prefixes(
    source: BinaryIO, name: str, prefixes: BinaryIO | None, prefix_file: Path | None
) -> Iterator[tuple[str, str]]:
    """Every line and its prefix, "" where there is none."""
    from smoe_ds.decode.lines import decoded_lines, paired

    lines = decoded_lines(source, name)
    if prefixes is None:
        return zip(lines, repeat(""), strict=False)
    return paired(lines, name, decoded_lines(prefixes, str(prefix_file)), str(prefix_file))


@contextlib.contextmanager
def _opened(file: Path | None, mode: Literal["rb", "wb"], standard: BinaryIO) -> Iterator[BinaryIO]:
    """A file, or standard input or output, which stays open."""
    from smoe_ds.errors import DataError

    if file is None:
        yield standard
        return
    try:
        stream = file.open(mode)
    except OSError as error:
        raise DataError(f"{file}: cannot be opened: {error.strerror}") from error
    with stream:
        yield stream


def _translate(
    translator: Translator, chunks: Iterable[list[tuple[str, str]]], sink: BinaryIO, args: argparse.Namespace
) -> None:
    first = 1
    for chunk in chunks:
        prefixes = [prefix for _, prefix in chunk] if args.prefix_file else None
        lines = [line for line, _ in chunk]
        answers = translator.n_best(lines, args.to, args.n_best, prefixes, first, args.source)
        alignments = _alignments(translator, lines, answers, args)
        for number, best in enumerate(answers, start=first):
            if best[0].status == "truncated":
                _warn_truncated(number, best[0], translator)
            for answer in best:
                sink.write(_written(answer, number, next(alignments), args).encode())
        sink.flush()
        first += len(chunk)


def _alignments(
    translator: Translator, lines: list[str], answers: list[list[Translation]], args: argparse.Namespace
) -> Iterator[str | None]:
    """The alignment of every answer in Pharaoh format; None where it is not asked for."""
    from smoe_ds.decode.word_alignment import word_pairs

    rows = [(line, answer.tokens) for line, best in zip(lines, answers, strict=True) for answer in best]
    if not args.align:
        return repeat(None, len(rows))
    found = translator.align([line for line, _ in rows], [tokens for _, tokens in rows], args.to, args.source)
    if args.align == "words":
        found = [word_pairs(translator.tokenizer, *row, pairs) for row, pairs in zip(rows, found, strict=True)]
    return (" ".join(f"{source}-{target}" for source, target in pairs) for pairs in found)


def _written(answer: Translation, number: int, alignment: str | None, args: argparse.Namespace) -> str:
    """A line of the output; Moses counts the lines of its n-best lists from 0."""
    if args.n_best > 1:
        fields = [str(number - 1), answer.text, f"{answer.score:.6f}", *([] if alignment is None else [alignment])]
        return " ||| ".join(fields) + "\n"
    score = f"{answer.score:.6f}\t" if args.scores else ""
    added = "" if alignment is None else f"\t{alignment}"
    return f"{score}{answer.text}{added}\n"


def _warn_truncated(number: int, answer: Translation, translator: Translator) -> None:
    note(
        "translate",
        f"line {number}: has {answer.num_source_tokens} tokens, the model takes {translator.max_positions} "
        "(smoe.model.max_positions); only its beginning is translated, split the line",
    )
