"""Everything that the report of a study shows, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from smoe_ds.study.capacity import Agreement, Chance, agreements, chances
from smoe_ds.study.compare import SystemResult, compare
from smoe_ds.study.directions import directions_of, groups_of
from smoe_ds.study.row import Row


@dataclass(frozen=True)
class StudyContents:
    """A study.

    Attributes:
        name: its file's.
        results: the systems.
        against: what they were tested against; None without.
        directions: all of them.
        groups: names of groups of directions that have means.
        agreements: requested capacity over the seeds.
        chances: tests of whether that is more than chance.
        rows: of its runs.
        runs: how many runs it has.
    """

    name: str
    results: Sequence[SystemResult]
    against: str | None
    directions: Sequence[str]
    groups: Sequence[str]
    agreements: Sequence[Agreement]
    chances: Sequence[Chance]
    rows: Sequence[Row]
    runs: int

    @property
    def failed(self) -> tuple[str, ...]:
        """A line for each run that failed."""
        return tuple(f"failed: {row.name} seed {row.seed}: {row.error}" for row in self.rows if row.status != "done")

    @property
    def by_seed(self) -> Mapping[str, Mapping[int, Row]]:
        """The runs that ended well, by system and seed."""
        found: dict[str, dict[int, Row]] = {one.name: {} for one in self.results}
        for row in self.rows:
            if row.status == "done":
                found[row.name][row.seed] = row
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "against": self.against,
            "systems": [asdict(one) for one in self.results],
            "agreement": [asdict(one) for one in self.agreements],
            "chance": [asdict(one) for one in self.chances],
            "failed": list(self.failed),
        }


def study_contents(
    name: str, rows: Sequence[Row], against: str | None, named: Mapping[str, Sequence[str]], runs: int
) -> StudyContents:
    """What there is to say of the rows of a study, see `compare`."""
    return StudyContents(
        name=name,
        results=compare(rows, against, named),
        against=against,
        directions=directions_of(rows),
        groups=list(groups_of(rows, named)),
        agreements=agreements(rows),
        chances=chances(rows),
        rows=rows,
        runs=runs,
    )
