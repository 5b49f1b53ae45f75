"""What a report knows of a run, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smoe_ds.analysis.requested_capacity import MEAN
from smoe_ds.analysis.token_paths import SentencePaths
from smoe_ds.config.run import RunConfig
from smoe_ds.evaluate.scores import Evaluation
from smoe_ds.planning.plan import Plan

Row = Mapping[str, Any]


@dataclass(frozen=True)
class RoutingNumbers:
    """The tables of an analysis, see ANALYSIS.md for their columns; of a dense model all but the losses are empty.

    Attributes:
        tables: rows by the name of a table.
        trees: nested languages, by side.
        text: what was read, in words.
        step: of the weights.
    """

    tables: Mapping[str, Sequence[Row]]
    trees: Mapping[str, Any]
    text: str
    step: int

    @property
    def sides(self) -> list[str]:
        """Those with blocks, encoder first."""
        return list(dict.fromkeys(row["side"] for row in self.tables["capacity"]))

    def blocks(self, side: str) -> list[str]:
        """Names of a side's blocks, from the input on."""
        found = dict.fromkeys(row["block"] for row in self.tables["capacity"] if row["side"] == side)
        return [name for name in found if name != MEAN]

    def capacity(self, side: str, by: str, block: str = MEAN) -> dict[str, float]:
        """Requested capacity by group; empty for a side without blocks."""
        wanted = (side, by, block)
        return {
            row["group"]: row["requested_capacity"]
            for row in self.tables["capacity"]
            if (row["side"], row["by"], row["block"]) == wanted
        }

    def losses(self, by: str) -> dict[str, float]:
        """Negative log-likelihood per token by group [nat]; empty for an analysis by an earlier version."""
        return {row["group"]: row["nll"] for row in self.tables["losses"] if row["by"] == by}

    def total(self, side: str, block: str = MEAN) -> float:
        """Mean requested capacity of all tokens of a side that has blocks."""
        return self.capacity(side, "all", block)["all"]


@dataclass(frozen=True)
class Missing:
    """What a report lacks, and the command that gives it; empty where none does."""

    what: str
    command: str = ""


@dataclass(frozen=True)
class RunContents:
    """One run.

    Attributes:
        name: short, different from those of the other runs of the report.
        path: what the user named.
        config: its configuration.
        plan: size and cost of the whole model, experts that were removed on export included.
        parameters: that the model has.
        lacks_experts: whether experts were removed on export.
        weights: which weights were looked at, in words; empty if there are none.
        environment: what it was made with; empty if that is not recorded.
        history: what was logged, by tag and step.
        scores: of its evaluation.
        routing: of its analysis.
        sentences: for the token view.
        repeat: the command that repeats it; empty where there is none.
        missing: what could not be shown.
    """

    name: str
    path: Path
    config: RunConfig
    plan: Plan
    parameters: int
    lacks_experts: bool = False
    weights: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    scores: Evaluation | None = None
    routing: RoutingNumbers | None = None
    sentences: Sequence[SentencePaths] = ()
    repeat: str = ""
    missing: Sequence[Missing] = ()

    @property
    def is_dense(self) -> bool:
        """Whether it has no experts."""
        return self.config.smoe.moe.is_dense
