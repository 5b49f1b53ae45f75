"""The command ``python -m data_prep SPEC.yaml``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from pydantic import BaseModel

from data_prep.cleaning.clean import DROP_REASONS, NOTICES
from data_prep.output.folder import kept
from data_prep.output.output_place import output_place
from data_prep.prepare import PIECE_SIZE, prepare
from data_prep.progress import Progress
from data_prep.readers import KINDS
from data_prep.report.report_file import read_report
from data_prep.report.tensorboard import check_writable, write_tensorboard
from data_prep.report.text import format_examples, format_report
from data_prep.spec.load_spec import SECTIONS, find_spec, load_spec
from data_prep.spec.sections import Spec
from data_prep.stages.pieces import fingerprint
from data_prep.workers.crew_member import share
from data_prep.workers.pool import Workers, processes_started, ranks
from smoe_ds.console import take_any_text
from smoe_ds.errors import LaunchError, SmoeError

_DESCRIPTION = """\
Turns parallel text into a corpus to train on. It reads the text, cleans it, holds out validation and test sentences
(none of them is in the training text of any language), trains a SentencePiece vocabulary, and writes token shards with
a manifest of counts and SHA-256.

Sources: file pairs, TSV, TMX and JSON lines, each plain, .gz, .xz, .bz2 or .zst; gettext catalogs; MediaWiki messages.
data_prep/example.yaml shows a specification. --keys lists every key with its default.

OPUS-100, M4 and M15 are known by name:
  python -m data_prep opus100 --set pair_list.root=FOLDER --output DIR
looks for their files in FOLDER. If some are missing, it lists them and where to get each.

The output folder appears when it is complete. Run the same command again to verify it, or, after an interruption, to
go on: finished work is kept in DIR.work beside the output. One process uses all processors of its host. To use more
hosts, start it with mpirun or srun, or start several with --share. The result is the same."""


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep",
        description=_DESCRIPTION,
        epilog="exit status: 0 prepared or already there, 2 an error, which the message explains",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "spec", type=Path, nargs="?", metavar="SPEC.yaml", help="the specification, or one of m4, m15, opus100"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder to write instead of the specification's; relative to the current folder",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key, e.g. --set sentencepiece.vocab_size=4000; repeatable",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an earlier result, if the output folder has nothing else in it",
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="processes to use (default: as many as pay off); not with mpirun or srun",
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help="share the work with the other processes that you start with --share for the same output. They may run on "
        "other hosts, if these see the same folder and reach each other, e.g. as tasks of an array job; needs no MPI",
    )
    parser.add_argument(
        "--piece",
        type=_positive,
        default=PIECE_SIZE,
        metavar="N",
        help="sentence pairs in one piece of work; does not change the result (default: %(default)s)",
    )
    parser.add_argument("--examples", action="store_true", help="show ten examples of what each filter dropped")
    parser.add_argument(
        "--tensorboard", type=Path, metavar="DIR", help="also write report and examples for TensorBoard"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress on stderr")
    parser.add_argument("--keys", action="store_true", help="describe all keys and all counts, and exit")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, 1 or more")
    return int(text)


def _describe_keys() -> Iterator[str]:
    """Every key of a specification with default and meaning, and every count of the report."""
    yield from _describe_section("", Spec)
    for section, model in SECTIONS.items():
        yield from _describe_section(section, model)
    for name, kind in KINDS.items():
        yield from _describe_section(f"source {name}", kind)
    yield "\ncounts of dropped pairs"
    yield from (f"  {name}: {meaning}" for name, meaning in DROP_REASONS.items())
    yield "\ncounts of what is noticed and kept"
    yield from (f"  {name}: {meaning}" for name, meaning in NOTICES.items())


def _describe_section(section: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"\n{section or 'top level'}: {' '.join((model.__doc__ or '').split())}"
    for name, field in model.model_fields.items():
        if not section and name in SECTIONS:
            continue
        default = "required" if field.is_required() else f"default {field.default!r}"
        yield f"  {name} ({default}): {field.description or 'see its own keys'}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: arguments; None: the process's.

    Returns:
        the exit status.
    """
    take_any_text()
    parser = argument_parser()
    args = parser.parse_args(argv)
    if args.keys:
        print("\n".join(_describe_keys()).strip())
        return 0
    if args.spec is None:
        parser.error("the specification SPEC.yaml is missing")
    try:
        number, evidence = processes_started()
        if args.share:
            return _share(args, number, evidence)
        if number == 1:
            return _run(args, args.workers)
        if args.workers is not None:
            raise LaunchError(
                f"--workers {args.workers}: here the workers are the {number} processes of {evidence}; leave it out"
            )
        with ranks(number, evidence) as workers:
            return 0 if workers is None else _run(args, workers)
    except (SmoeError, OSError) as error:
        if args.debug:
            raise
        print(f"error: {_in_words(error)}", file=sys.stderr)
        return 2


def _share(args: argparse.Namespace, number: int, evidence: str) -> int:
    """Leads the processes that share the work, or helps; returns the exit status."""
    if number > 1:
        raise LaunchError(f"--share with {evidence}: these processes share the work over MPI; leave out --share")
    if args.overwrite:
        raise LaunchError("--share with --overwrite: a late process would start over; remove the output yourself first")
    file, base = find_spec(args.spec)
    spec = load_spec(file, args.set, base)
    output = output_place(args.output or base / spec.output)
    status, led = share(
        output,
        fingerprint(spec.model_dump(mode="json", exclude={"output"})),
        args.workers or len(os.sched_getaffinity(0)),
        lambda workers: _run(args, workers),
        Progress(quiet=args.quiet).say,
    )
    if not led:
        print(f"{'prepared' if status == 0 else 'not prepared, see its output'}: {output}; another process led")
    return status


def _run(args: argparse.Namespace, workers: Workers | int | None) -> int:
    """Runs the command in the process that leads; returns the exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    progress = Progress(quiet=args.quiet)
    status = 2
    try:
        file, base = find_spec(args.spec)
        spec = load_spec(file, args.set, base)
        output = output_place(args.output or base / spec.output)
        _prepare(args, spec, base, output, workers, progress)
        return 0
    except (SmoeError, OSError) as error:
        if args.debug:
            raise
        print(f"error: {_in_words(error)}", file=sys.stderr)
    except _Terminated:
        print("terminated", file=sys.stderr)
        status = 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 128 + signal.SIGINT
    if progress.work is not None and (note := kept(progress.work, interrupted=status != 2)):
        print(note, file=sys.stderr)
    return status


def _in_words(error: Exception) -> str:
    """An error without the number and the quotes of one that the operating system found."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    place = f"{error.filename}: " if error.filename is not None else ""
    return f"{place}{error.strerror}; fix this and run the same command again (--debug shows where it happened)"


class _Terminated(BaseException):
    """The process was asked to end."""


def _terminate(number: int, frame: FrameType | None) -> None:
    """Leaves through the clean-up."""
    raise _Terminated


def _prepare(
    args: argparse.Namespace, spec: Spec, base: Path, output: Path, workers: Workers | int | None, progress: Progress
) -> None:
    if args.tensorboard is not None:
        check_writable(args.tensorboard)
    corpus, reused = prepare(
        spec,
        base,
        output,
        overwrite=args.overwrite,
        workers=workers,
        progress=progress,
        piece_size=args.piece,
    )
    print(format_report(corpus.manifest))
    if args.examples:
        print(format_examples(read_report(corpus.path)))
    total = sum(entry["sentences"] for entry in corpus.manifest["splits"]["train"].values())
    vocab_size = corpus.manifest["tokenizer"]["vocab_size"]
    done = "already prepared, verified" if reused else "prepared"
    print(f"{done}: {output}: {total:,} training pairs, {len(corpus.languages)} languages, {vocab_size:,} pieces")
    if args.tensorboard is not None:
        write_tensorboard(args.tensorboard, corpus.manifest, read_report(corpus.path))
