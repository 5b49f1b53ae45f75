"""A row of ``results.jsonl``: what one run of a study gave, failed ones too; tables are made of rows alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from smoe_ds.errors import CheckpointError
from smoe_ds.evaluate.counts import Counts
from smoe_ds.study.identity import Identity


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        system: name of the system.
        variant: name of the variant; empty for the system as it is.
        seed: of the run.
        fingerprint: of its configuration.
        status: ``done``, or ``failed``.
        error: why it failed; empty if it did not.
        steps: optimizer steps taken.
        nll: validation NLL by direction at the end [nat a token].
        best_nll: mean over the directions of the best validation.
        curve: (step, source and target tokens seen, seconds in steps and waiting for data, mean validation NLL) of
            every validation.
        seconds_per_step: median over the log, data and validation left out [s].
        tokens_per_second: the same, without padding.
        peak_memory: of the training process on its host [bytes].
        device_memory: of rank 0's tensors on its GPU at the peak [bytes]; None without one.
        parameters: of the whole model.
        flops_per_token: of a forward pass, uniform routing.
        requested_capacity: mean over the blocks, as last logged; None without experts.
        by_block: the same of each block.
        capacity: requested capacity, mean over the blocks of a side, by property (``language``, ``frequency``), side
            and group; by language alone, at the last validation, where nothing was analysed.
        chance: what ``smoe-ds analyze`` found of whether that is more than chance, see
            `smoe_ds.analysis.chance.ChanceTest`; empty where nothing was analysed.
        scores: BLEU, chrF++ by direction; empty if nothing was translated.
        counts: what both are computed from, by direction, to test systems against each other.
        levels: resource level of each direction that has one.
        settings: ``KEY=VALUE`` that were set beside the run file.
        folder: the run folder.
        started: when, ISO 8601.
        identity: what makes it another run; None in rows of versions that did not write it down.
    """

    system: str
    variant: str
    seed: int
    fingerprint: str
    status: str
    error: str = ""
    steps: int = 0
    nll: Mapping[str, float] = field(default_factory=dict)
    best_nll: float | None = None
    curve: list[tuple[int, float, float, float]] = field(default_factory=list)
    seconds_per_step: float | None = None
    tokens_per_second: float | None = None
    peak_memory: int | None = None
    device_memory: int | None = None
    parameters: int = 0
    flops_per_token: float = 0.0
    requested_capacity: float | None = None
    by_block: Mapping[str, float] = field(default_factory=dict)
    capacity: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    chance: list[Mapping[str, Any]] = field(default_factory=list)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    counts: Mapping[str, Counts] = field(default_factory=dict)
    levels: Mapping[str, str] = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)
    folder: str = ""
    started: str = ""
    identity: Identity | None = None

    @property
    def name(self) -> str:
        """``SYSTEM``, or ``SYSTEM+VARIANT``."""
        return f"{self.system}+{self.variant}" if self.variant else self.system

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What makes a run another one."""
        return self.system, self.variant, self.seed, self.fingerprint

    @property
    def mean_nll(self) -> float | None:
        """Mean over the directions, each counting the same."""
        return sum(self.nll.values()) / len(self.nll) if self.nll else None


def append_row(file: Path, row: Row) -> None:
    """Adds a row with one write, so that several processes may do so at once; after one that was cut off, a line of its
    own.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) < len(line):
            raise OSError(f"{file}: no room for a row")
    finally:
        os.close(descriptor)


def read_rows(file: Path) -> list[Row]:
    """The rows of a study, none if there is no file yet; of several of one run the last one counts.

    Raises:
        CheckpointError: a line is damaged.
    """
    if not file.is_file():
        return []
    known = {one.name for one in fields(Row)}
    rows: dict[tuple[str, str, int, str], Row] = {}
    for number, line in enumerate(file.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"}\n"):
            continue  # cut off while it was written
        try:
            content: dict[str, Any] = json.loads(line)
            row = _row({key: value for key, value in content.items() if key in known})
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{file}, line {number}: is damaged ({error}); remove the line") from error
        rows.pop(row.key, None)
        rows[row.key] = row
    return list(rows.values())


def _row(content: dict[str, Any]) -> Row:
    identity, counts = content.get("identity"), content.get("counts", {})
    return Row(
        **content
        | {"identity": identity and Identity(**identity)}
        | {"counts": {direction: Counts(**of) for direction, of in counts.items()}}
    )


def done_keys(rows: Iterable[Row]) -> set[tuple[str, str, int, str]]:
    """Keys of the runs that have ended well."""
    return {row.key for row in rows if row.status == "done"}
