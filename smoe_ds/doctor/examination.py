"""All that a doctor found, and whether the run can start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from smoe_ds.doctor.finding import FAILED
from smoe_ds.doctor.merge import Line


@dataclass(frozen=True)
class Examination:
    """The findings of all ranks.

    Attributes:
        lines: in the order of the checks.
        go: whether the run can start.
    """

    lines: tuple[Line, ...]
    go: bool

    def as_json(self) -> dict[str, Any]:
        return {"go": self.go, "findings": [asdict(line) for line in self.lines]}


def may_go(lines: Sequence[Line]) -> bool:
    """Whether the run can start: nothing failed."""
    return all(line.mark != FAILED for line in lines)
