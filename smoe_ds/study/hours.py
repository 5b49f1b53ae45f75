"""How long the runs of a study take: as runs like them took, or as ``smoe-ds plan --nodes`` predicts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import mean

from smoe_ds.planning.plan import make_plan
from smoe_ds.planning.vocabulary import planned_vocab_size
from smoe_ds.scaling.collectives import Topology
from smoe_ds.scaling.constants import Constants
from smoe_ds.scaling.predict import constants_warnings, predict
from smoe_ds.study.row import Row
from smoe_ds.study.spec import StudyRun


class Source(Enum):
    """Where hours are from."""

    SAME_SYSTEM = ("", "seconds per step of this system's runs that have ended")
    PREDICTED = ("p", "predicted by the calibration, see smoe-ds plan --nodes 1")
    OTHER_SYSTEMS = ("~", "by FLOPs per second of other runs that have ended")

    @property
    def sign(self) -> str:
        """Stands behind such hours."""
        return self.value[0]

    @property
    def text(self) -> str:
        """In words."""
        return self.value[1]


@dataclass(frozen=True)
class Hours:
    """What a run takes in steps [h], and how that is known."""

    hours: float
    source: Source


def hours_of(run: StudyRun, rows: Sequence[Row], others: Sequence[Row], constants: Constants | None) -> Hours | None:
    """The hours of a run from its beginning to its end.

    Args:
        run: the run.
        rows: of the study's runs that ended.
        others: of these, and of runs with other settings.
        constants: of the machine; None without a calibration.

    Returns:
        None where nothing like it has ended and there is no calibration.

    Raises:
        ConfigError: the constants lack what the run needs.
    """
    smoe = run.config.smoe
    same = [row.seconds_per_step for row in rows if row.name == run.name and row.seconds_per_step]
    if same:
        seconds, source = mean(same), Source.SAME_SYSTEM
    elif constants is not None:
        vocab_size = planned_vocab_size(run.config)[0]
        seconds = predict(run.config, vocab_size, constants, Topology(1, run.identity.ranks or 1)).step.seconds
        source = Source.PREDICTED
    elif speeds := [row.flops_per_token * row.tokens_per_second for row in others if row.tokens_per_second]:
        plan = make_plan(run.config, vocab_size=planned_vocab_size(run.config)[0])
        tokens = run.config.train_batch_size * smoe.data.max_tokens
        seconds, source = plan.flops_per_token * tokens / mean(speeds), Source.OTHER_SYSTEMS
    else:
        return None
    hours = seconds * smoe.train.max_steps / 3600
    return Hours(hours if smoe.train.max_minutes is None else min(hours, smoe.train.max_minutes / 60), source)


def warnings_of(runs: Sequence[StudyRun], constants: Constants) -> list[str]:
    """What in a calibration is unlike the runs, each said once."""
    found = []
    for run in runs:
        topology, vocab_size = Topology(1, run.identity.ranks or 1), planned_vocab_size(run.config)[0]
        found += constants_warnings(run.config, constants, topology, vocab_size)
    return list(dict.fromkeys(found))
