"""Which optimizer steps are taken: none with a gradient that is not finite, on request none at a spike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from smoe_ds.config.train import TrainConfig
from smoe_ds.engine.build import gradient_norm, step_was_skipped
from smoe_ds.engine.gradients import UpdateGate
from smoe_ds.engine.protocol import Stepped
from smoe_ds.errors import NonFiniteError
from smoe_ds.train.spikes import SpikeDetector

_ADVICE = (
    "lower optimizer.params.lr, lengthen smoe.train.warmup_steps or set gradient_clipping, then go on from the last "
    "checkpoint"
)


class Updates:
    """Decides on each step, the same on all ranks.

    Args:
        engine: the DeepSpeed engine.
        train: settings ``skip_spikes_above``, ``spike_window`` and ``max_skipped_in_a_row``.
        sum_over_ranks: sums a float64 vector over all ranks.

    Attributes:
        spikes: what loss and norm have been.
        skipped: why the last step was not taken, "" if it was.
    """

    def __init__(self, engine: Stepped, train: TrainConfig, sum_over_ranks: Callable[[Tensor], Tensor]) -> None:
        self._engine = engine
        self._gate = UpdateGate(engine)
        self._sum_over_ranks = sum_over_ranks
        self._most = train.max_skipped_in_a_row
        self._loss = 0.0
        self.spikes = SpikeDetector(train.skip_spikes_above, train.spike_window)
        self.skipped = ""

    def prepare(self, smoothed: Tensor, tgt_tokens: int) -> None:
        """Looks at a step's loss before it is taken. A collective where spikes are skipped.

        Args:
            smoothed: this rank's summed loss over the step's micro-batches [nat].
            tgt_tokens: target tokens of the step, all ranks.
        """
        if self.spikes.factor is None:
            return
        self._loss = float(self._sum_over_ranks(smoothed.detach().to(torch.float64).view(1))) / tgt_tokens
        self._gate.closed = self._loss > self.spikes.limit("loss")
        self._gate.norm_limit = self.spikes.limit("norm")

    def judge(self) -> str:
        """After the engine's step: why it was not taken, "" if it was."""
        norm = gradient_norm(self._engine)
        if step_was_skipped(self._engine):
            self.skipped = "its gradient is not finite"
        elif self._gate.dropped:
            self.skipped = (
                f"loss {self._loss:.3f} or norm {norm:.2f} is above {self.spikes.factor:g} times its median "
                f"(limits {self.spikes.limit('loss'):.3f} and {self.spikes.limit('norm'):.2f})"
            )
        else:
            self.skipped = ""
            self.spikes.add(self._loss, norm)
        return self.skipped

    def check_in_a_row(self, number: int, step: int) -> None:
        """Ends a run that gets nowhere.

        Args:
            number: steps in a row that were not taken.
            step: the last of them.

        Raises:
            NonFiniteError: there are too many of them; on all ranks.
        """
        if number < self._most:
            return
        error = NonFiniteError(
            f"step {step}: {number} steps in a row were skipped (smoe.train.max_skipped_in_a_row), the last one "
            f"because {self.skipped}; {_ADVICE}"
        )
        error.agreed = True
        raise error
