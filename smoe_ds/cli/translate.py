"""``smoe-ds translate RUN --to xxx``: text on stdin, translations on stdout, one line for each line."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from smoe_ds.cli.arguments import add_model_arguments
from smoe_ds.cli.files import check_apart, check_outside
from smoe_ds.cli.messages import note
from smoe_ds.cli.open_model import open_run
from smoe_ds.cli.values import positive

if TYPE_CHECKING:
    from smoe_ds.decode.load import TrainedModel
    from smoe_ds.decode.translator import Translation, Translator

HELP = "translate text with a trained model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_model_arguments(parser)
    parser.add_argument("--to", required=True, metavar="LANG", help="language to translate into, for example cat")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="LANG",
        help="language of the input; the model does not need it, but you are warned if the corpus has no training text "
        "in this direction",
    )
    parser.add_argument("--input", type=Path, metavar="FILE", help="file to read (default: stdin)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write (default: stdout)")
    parser.add_argument("--scores", action="store_true", help="write the score and a tab before each translation")
    parser.add_argument(
        "--chunk",
        type=positive,
        default=1000,
        metavar="N",
        help="lines to read before translating them, sorted by length; 1 answers line by line (default: 1000)",
    )


def run(args: argparse.Namespace) -> int:
    """Translates until the input ends."""
    from smoe_ds.parallel.threads import choose_threads

    choose_threads(1)
    folder = open_run(args)
    for language in (args.to, args.source or args.to):
        folder.tokenizer.language_id(language)  # an unknown one is refused before the weights are read
    _note_untrained_direction(folder, args)
    name = str(args.input or "stdin")
    with _opened(args.input, "rb", sys.stdin.buffer) as source:
        check_apart(source, args.output or sys.stdout.buffer, name)
        check_outside(args.output, folder.folder)
        translator = folder.translator(folder.checkpoint(args.checkpoint))
        chunks = _chunks(source, name, args.chunk)
        first = list(islice(chunks, 1))  # a refused input leaves an older output as it is
        with _opened(args.output, "wb", sys.stdout.buffer) as sink:
            _translate(translator, chain(first, chunks), sink, args)
    return 0


def _note_untrained_direction(folder: TrainedModel, args: argparse.Namespace) -> None:
    trained = folder.config.smoe.data.directions or _directions_of_corpus(folder)
    direction = f"{args.source}-{args.to}"
    if args.source and trained is not None and direction not in trained:
        note("translate", f"note: the run was not trained on {direction}")


def _directions_of_corpus(folder: TrainedModel) -> Sequence[str] | None:
    """The directions with training text; None where the corpus of the run is not at hand."""
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.errors import DataError

    try:
        corpus = Corpus(Path(folder.config.smoe.data.path), verify=False)
        return corpus.directions_of("train") if corpus.tokenizer.sha256 == folder.tokenizer.sha256 else None
    except (DataError, OSError):
        return None


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


def _chunks(source: BinaryIO, name: str, size: int) -> Iterator[list[str]]:
    from smoe_ds.decode.lines import chunked, decoded_lines

    return chunked(decoded_lines(source, name), 1 if source.isatty() else size)


def _translate(translator: Translator, chunks: Iterable[list[str]], sink: BinaryIO, args: argparse.Namespace) -> None:
    first = 1
    for lines in chunks:
        for number, answer in enumerate(translator.translate(lines, args.to), start=first):
            if answer.status == "truncated":
                _warn_truncated(number, answer, translator)
            score = f"{answer.score:.6f}\t" if args.scores else ""
            sink.write(f"{score}{answer.text}\n".encode())
        sink.flush()
        first += len(lines)


def _warn_truncated(number: int, answer: Translation, translator: Translator) -> None:
    note(
        "translate",
        f"line {number}: has {answer.num_source_tokens} tokens, the model takes {translator.max_positions} "
        "(smoe.model.max_positions); only its beginning is translated, split the line",
    )
