"""What a run tells while it goes on: each event knows its figures, by TensorBoard tag, and its lines on the console.

A new figure is a field of an event, with its tag in `scalars` and, if it is to be seen on the console, a place in
`lines`; listeners need not know of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from smoe_ds.run.requested_capacity import REQUESTED_CAPACITY
from smoe_ds.train.coverage import Coverage
from smoe_ds.train.duration import format_duration
from smoe_ds.train.meters import Interval

VALIDATION = "valid/nll"
"""Tag that every validation has."""


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

    def texts(self) -> dict[str, str]:
        """Documents by tag, shown as they are."""
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
        eta: expected time to the end of the run [s].
        last_step: of the run; None where its time decides.
        loss_scale: None without fp16.
        skipped: steps that were not taken, since the run began.
        epochs: how often each direction's text has been drawn so far.
        left_out: sentence pairs that were too long so far, by direction.
    """

    means: Interval
    lr: float
    norm: float
    seconds: float
    eta: float
    last_step: int | None
    loss_scale: float | None
    skipped: SkippedSteps
    epochs: Mapping[str, float]
    left_out: Mapping[str, int]

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
            **({} if self.loss_scale is None else {"train/loss_scale": self.loss_scale}),
            **_routing(self.means),
            **self.skipped.scalars(),
            **{f"data_epochs/{direction}": value for direction, value in self.epochs.items()},
            "train/skipped_sentences": sum(self.left_out.values()),
        }

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
    """

    nll: Mapping[str, float]
    mean: float
    best: bool
    coverage: Coverage

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.mean, 50.0))

    def scalars(self) -> dict[str, float]:
        per_direction = {f"{VALIDATION}/{direction}": value for direction, value in self.nll.items()}
        pairs = {"valid/pairs": self.coverage.read, "valid/skipped_sentences": self.coverage.too_long}
        return {VALIDATION: self.mean, "valid/perplexity": self.perplexity, **pairs, **per_direction}

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
    return scalars
