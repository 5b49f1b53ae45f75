"""Whether the prepared corpus is whole, the same on all hosts, and has what the run wants of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, OK, Finding
from smoe_ds.errors import DataError

if TYPE_CHECKING:
    from smoe_ds.data.corpus import Corpus

PATIENCE_FULL = 60.0
"""Times the usual deadline where every byte is read."""


def check_corpus(context: Context) -> Iterator[Finding]:
    """Manifest, sizes, tokenizer and directions, on the first rank of each host; with --full every byte."""
    folder = Path(context.run.smoe.data.path)
    fingerprint = ""
    if context.meeting.first_on_host:
        try:
            corpus = _open(folder, full=context.full)
            fingerprint = corpus.fingerprint
            yield _whole(corpus, full=context.full)
            yield from direction_findings(corpus, context.run.smoe.data.directions)
        except DataError as error:
            for problem in str(error).split("\n"):
                yield _damage(problem)
    seconds = context.seconds * (PATIENCE_FULL if context.full else 1) / 2
    fingerprints = context.meeting.collect("corpus", fingerprint, seconds)
    if fingerprints is not None and len(context.meeting.speakers) > 1:
        yield from _same_everywhere(context, fingerprints)


def direction_findings(corpus: Corpus, wanted: list[str] | None) -> Iterator[Finding]:
    """What the run trains of a corpus that was opened."""
    with_text = corpus.directions_of("train")
    problems = []
    for direction in with_text if wanted is None else wanted:
        try:
            corpus.pair_of("train", direction)
        except DataError as error:
            problems.append(str(error))
        else:
            if direction not in with_text:
                problems.append(f"{corpus.path}: direction {direction} has no training text; leave it out")
    for problem in problems:
        text, _, remedy = problem.partition("; ")
        yield Finding(FAILED, f"smoe.data.directions: {text}", remedy, scope="host")
    if not with_text:
        yield Finding(FAILED, f"{corpus.path}: no direction has training text", "prepare it again", scope="host")
    elif not problems:
        count = len(with_text if wanted is None else wanted)
        yield Finding(
            OK,
            f"{{count:count}} directions to train, {len(corpus.languages)} languages, a vocabulary of "
            f"{corpus.tokenizer.vocab_size:,}",
            figures={"count": count},
            scope="host",
        )


def _damage(problem: str) -> Finding:
    """A problem with its own remedy, where it ends with one, else with what always helps."""
    text, _, end = problem.rpartition("; ")
    if text and end.startswith(("restore", "prepare")):
        return Finding(FAILED, text, end, scope="host")
    remedy = "restore it, prepare it with `python -m data_prep SPEC.yaml`, or correct smoe.data.path"
    return Finding(FAILED, problem, remedy, scope="host")


def _open(folder: Path, *, full: bool) -> Corpus:
    from smoe_ds.data.corpus import Corpus

    corpus = Corpus(folder, verify=full)
    _ = corpus.tokenizer  # is the one the shards were written with, or raises
    return corpus


def _whole(corpus: Corpus, *, full: bool) -> Finding:
    from smoe_ds.data.manifest import shard_files

    sizes = [entry["bytes"] for _, entry in shard_files(corpus.manifest)]
    how = "every byte is as written" if full else "manifest and sizes are as written (--full reads every byte)"
    return Finding(
        OK,
        f"{corpus.path}: {{files:count}} files, {{size:bytes}}: {how}",
        figures={"files": len(sizes), "size": sum(sizes)},
        scope="host",
    )


def _same_everywhere(context: Context, fingerprints: list[str | None]) -> Iterator[Finding]:
    """The corpora of hosts that have one, against rank 0's."""
    hosts = context.meeting.hosts
    found = {hosts[rank]: fingerprints[rank] for rank in context.meeting.speakers if fingerprints[rank]}
    other = [host for host, fingerprint in found.items() if fingerprint != found.get(hosts[0], fingerprint)]
    if other:
        yield Finding(
            FAILED,
            f"{context.run.smoe.data.path} holds another corpus on {', '.join(other)} than on {hosts[0]}",
            "copy the same one to every host, or use one on a shared file system",
            scope="run",
        )
