"""What a run tells while it goes on: each event knows its figures, by TensorBoard tag, and its lines on the console.

A new figure is a field of an event, with its tag in `scalars` and, if it is to be seen on the console, a place in
`lines`; listeners need not know of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from smoe_ds.run.requested_capacity import REQUESTED_CAPACITY
from smoe_ds.train.coverage import Coverage
from smoe_ds.train.duration import format_duration
from smoe_ds.train.load_image import load_image
from smoe_ds.train.meters import Interval
from smoe_ds.train.tensorboard_layout import BALANCE, LEARNING, SPEED
from smoe_ds.train.validation_translations import TranslatedDirection

VALIDATION = "valid/nll"
"""Tag that every validation has."""
_WAITS = ("data", "exchange")
"""Phases in which a rank waits."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that a run tells; by default nothing.

    Attributes:
        step: the step that it belongs to.
    """

    step: int = 0

    def scalars(self) -> dict[str, float]:
        """Figures by tag."""
        return {}

    def lines(self) -> list[str]:
        """Lines for the console."""
        return []

    def overview(self) -> dict[str, float]:
        """The few figures that TensorBoard shows first, by tag; most are in `scalars` too."""
        return {}

    def texts(self) -> dict[str, str]:
        """Documents by tag, shown as they are."""
        return {}

    def images(self) -> dict[str, NDArray[np.uint8]]:
        """Pictures by tag, uint8 [height, width, 3]."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """A line without figures."""

    text: str

    def lines(self) -> list[str]:
        return [self.text]


@dataclass(frozen=True, kw_only=True)
class Introduction(Event):
    """What is trained, and how.

    Attributes:
        about: in words.
        config: the resolved run as JSON text.
    """

    about: tuple[str, ...]
    config: str

    def lines(self) -> list[str]:
        return list(self.about)

    def texts(self) -> dict[str, str]:
        return {"config": self.config}


@dataclass(frozen=True, kw_only=True)
class SkippedSteps(Event):
    """How many steps were not taken so far.

    Attributes:
        not_finite: those whose gradient was not finite.
        spikes: those whose loss or gradient norm was far above what it had been.
        why: why this step was not taken; "" where the event is not about this one.
    """

    not_finite: int
    spikes: int
    why: str = ""

    def scalars(self) -> dict[str, float]:
        return {"train/skipped_steps": self.not_finite, "train/skipped_spikes": self.spikes}

    def lines(self) -> list[str]:
        return [f"step {self.step} skipped: {self.why}"] if self.why else []


@dataclass(frozen=True, kw_only=True)
class IntervalDone(Event):
    """The steps since the last such event.

    Attributes:
        means: over the interval and all ranks.
        lr: learning rate of its last step.
        norm: gradient norm of that step.
        seconds: time spent in its steps [s].
        steps: how many they are.
        eta: expected time to the end of the run [s].
        last_step: of the run; None where its time decides.
        loss_scale: None without fp16.
        skipped: steps that were not taken, since the run began.
        epochs: how often each direction's text has been drawn so far.
        left_out: sentence pairs that were too long so far, by direction.
        phases: rank 0's time by phase, see `smoe_ds.train.phases` [s].
        memory: rank 0's memory at its peak, by place [bytes].
    """

    means: Interval
    lr: float
    norm: float
    seconds: float
    steps: int
    eta: float
    last_step: int | None
    loss_scale: float | None
    skipped: SkippedSteps
    epochs: Mapping[str, float]
    left_out: Mapping[str, int]
    phases: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def speed(self) -> float:
        """Source and target tokens per second."""
        return self.means.tokens / max(self.seconds, 1e-9)

    def scalars(self) -> dict[str, float]:
        return {
            "train/loss": self.means.loss,
            "train/nll": self.means.nll,
            "train/learning_rate": self.lr,
            "train/gradient_norm": self.norm,
            "train/tokens_per_second": self.speed,
            "train/seconds_per_step": self.seconds / max(self.steps, 1),
            **({} if self.loss_scale is None else {"train/loss_scale": self.loss_scale}),
            **_routing(self.means),
            **self.skipped.scalars(),
            **{f"data_epochs/{direction}": value for direction, value in self.epochs.items()},
            "train/skipped_sentences": sum(self.left_out.values()),
            **{f"train_nll/{direction}": value for direction, value in self.means.nll_by_direction.items()},
            **{f"time/{phase} (s)": seconds / max(self.steps, 1) for phase, seconds in self.phases.items()},
            **{f"memory/{place} (GiB)": held / 2**30 for place, held in self.memory.items()},
        }

    def overview(self) -> dict[str, float]:
        strata = [stratum for block in self.means.strata.values() for stratum in block]
        figures = {f"{LEARNING}/NLL (nat), training": self.means.nll, f"{LEARNING}/gradient norm": self.norm}
        if strata:
            figures |= {
                f"{BALANCE}/busiest expert over the mean": max(stratum.load for stratum in strata),
                f"{BALANCE}/dead experts": sum(stratum.dead for stratum in strata),
                f"{BALANCE}/most rows dropped (share)": max(stratum.dropped for stratum in strata),
                f"{BALANCE}/requested capacity": self.means.mean_rc or 0.0,
            }
        figures |= {f"{SPEED}/tokens per second": self.speed}
        if total := sum(self.phases.values()):
            figures |= {f"{SPEED}/waiting for {name} (share)": self.phases[name] / total for name in _WAITS}
        return figures

    def images(self) -> dict[str, NDArray[np.uint8]]:
        seen = any(stratum.rows for block in self.means.strata.values() for stratum in block)
        return {"load of experts": load_image(self.means.strata)} if seen else {}

    def lines(self) -> list[str]:
        means, of = self.means, "" if self.last_step is None else f"/{self.last_step}"
        routing = ""
        if means.balance_loss is not None:
            routing = f" | balance {means.balance_loss:.3f} RC {means.mean_rc:.2f}"
        return [
            f"step {self.step}{of} | loss {means.loss:.3f} nll {means.nll:.3f}{routing} | "
            f"lr {self.lr:.2e} | norm {self.norm:.2f} | {self.speed:,.0f} tok/s | ETA {format_duration(self.eta)}"
        ]


@dataclass(frozen=True, kw_only=True)
class Validated(Event):
    """A validation.

    Attributes:
        nll: validation loss per target token by direction [nat].
        mean: over the directions [nat].
        best: whether the mean is the lowest so far.
        coverage: how much of the text it is of.
        requested_capacity: mean strata per token, by side (encoder, decoder) and direction.
        translated: scores and samples of what was translated, by direction; empty where nothing was.
        tokens: source and target tokens trained on so far; None where they were not counted.
        step_seconds: time in steps so far, waiting for data included [s]; None likewise.
    """

    nll: Mapping[str, float]
    mean: float
    best: bool
    coverage: Coverage
    requested_capacity: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    translated: Mapping[str, TranslatedDirection] = field(default_factory=dict)
    tokens: int | None = None
    step_seconds: float | None = None

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.mean, 50.0))

    def scalars(self) -> dict[str, float]:
        per_direction = {f"{VALIDATION}/{direction}": value for direction, value in self.nll.items()}
        pairs = {"valid/pairs": self.coverage.read, "valid/skipped_sentences": self.coverage.too_long}
        capacity = {
            f"valid_rc_{side}/{direction}": value
            for side, by_direction in self.requested_capacity.items()
            for direction, value in by_direction.items()
        }
        loss = {VALIDATION: self.mean, "valid/perplexity": self.perplexity}
        reached = {"progress/tokens": self.tokens, "progress/seconds": self.step_seconds}
        progress = {tag: float(value) for tag, value in reached.items() if value is not None}
        return {**loss, **pairs, **per_direction, **capacity, **progress, **self._scores()}

    def _scores(self) -> dict[str, float]:
        """BLEU and chrF++ of each direction, and their means."""
        scores: dict[str, float] = {}
        for name in ("bleu", "chrf") if self.translated else ():
            values = {direction: getattr(one.score, name) for direction, one in self.translated.items()}
            scores[f"valid/{name}"] = sum(values.values()) / len(values)
            scores |= {f"valid_{name}/{direction}": value for direction, value in values.items()}
        return scores

    def overview(self) -> dict[str, float]:
        figures = {f"{LEARNING}/NLL (nat), validation": self.mean}
        if "valid/bleu" in (scores := self._scores()):
            figures[f"{LEARNING}/BLEU, validation"] = scores["valid/bleu"]
        return figures

    def texts(self) -> dict[str, str]:
        return {f"translations/{direction}": one.text for direction, one in self.translated.items()}

    def lines(self) -> list[str]:
        worst = max(self.nll, key=lambda direction: self.nll[direction])
        pairs = f" | {self.coverage.text}" if self.coverage.text else ""
        return [
            f"step {self.step} | validation nll {self.mean:.3f} perplexity {self.perplexity:.1f} over {len(self.nll)} "
            f"directions, worst {worst} {self.nll[worst]:.3f}{pairs}{' | best so far' if self.best else ''}"
        ]


class LeftOut:
    """Says how many sentence pairs were left out as too long: the first time, and when their number has doubled."""

    def __init__(self) -> None:
        self._said = 0

    def notices(self, left_out: Mapping[str, int], step: int) -> list[Notice]:
        """What there is to say.

        Args:
            left_out: sentence pairs so far, by direction.
            step: the step.
        """
        total = sum(left_out.values())
        if total < max(2 * self._said, 1):
            return []
        self._said = total
        most = max(left_out, key=lambda direction: left_out[direction])
        text = (
            f"step {step} | {total} sentence pairs left out so far, longer than smoe.model.max_positions or "
            f"smoe.data.max_tokens; most in {most} ({left_out[most]})"
        )
        return [Notice(step=step, text=text)]


def _routing(means: Interval) -> dict[str, float]:
    scalars = {f"train/{name}": value for name, value in means.auxiliary.items()}
    scalars |= {f"{REQUESTED_CAPACITY}{block}": rc for block, rc in means.requested_capacity.items()}
    for block, strata in means.strata.items():
        for i, stratum in enumerate(strata):
            scalars[f"moe_tokens/{block}/stratum_{i}"] = stratum.tokens
            scalars[f"moe_load/{block}/stratum_{i}"] = stratum.load
            scalars[f"moe_dropped/{block}/stratum_{i}"] = stratum.dropped
            scalars[f"moe_gate_entropy/{block}/stratum_{i}"] = stratum.entropy
            scalars[f"moe_dead/{block}/stratum_{i}"] = stratum.dead
            scalars[f"moe_choices/{block}/stratum_{i}"] = stratum.choices
            if stratum.width is not None:
                scalars[f"moe_width/{block}/stratum_{i}"] = stratum.width
    return scalars
