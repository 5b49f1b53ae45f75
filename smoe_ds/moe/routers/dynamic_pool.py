"""The experts of a dynamic gate come and go: a record of a window of steps, and what changes at its end.

A record holds for each expert the tokens that took it [E], the tokens that took none [1], and their sum [D]. It is
kept exactly, in units of 2^-20, and in three parts of 20 bits, since checkpoints keep whole numbers below 2^24: a run
that is resumed in the middle of a window ends it as if it had not been interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.config.routers.dynamic import Dynamic
from smoe_ds.moe.adaptive import Rewrite
from smoe_ds.moe.stats import StratumStats

_BITS = 20
_UNITS = 1 << 20


@dataclass(frozen=True)
class PoolState:
    """What belongs to a gate's pool of experts.

    Attributes:
        weight: the experts' vectors [E, D]; this and the threshold are changed by whoever is handed the rewrites.
        threshold: of each expert [E].
        active: 1 where an expert is on [E], int64, moved in place as the others below.
        position: steps taken in the cycle [1], int64.
        records: what was recorded in it [3, E + 1 + D], int64.
    """

    weight: nn.Parameter
    threshold: nn.Parameter
    active: Tensor
    position: Tensor
    records: Tensor


class ExpertPool:
    """The experts of one gate, on or off, :class:`smoe_ds.moe.adaptive.Adaptive`.

    Args:
        settings: when they come and go.
        state: of the gate.

    Source: arXiv 2405.14297, Section 3.2. A cycle counts optimizer steps, in the authors' code forward passes. Adam's
    moments of a vector that is written anew, and the weights of an expert that comes back, stay as they are.
    """

    def __init__(self, settings: Dynamic, state: PoolState) -> None:
        self._settings = settings
        self._state = state
        self._position = int(state.position)  # kept here too: no wait for the device at each step

    def counts(self, stats: StratumStats) -> Tensor:
        """A record of one micro-batch [E + 1 + D] in units."""
        assert stats.records is not None
        record = torch.cat([stats.requested_KE.sum(0).to(torch.float64), stats.records.to(torch.float64)])
        return (record * _UNITS).round()

    def adapt(self, counts: Tensor) -> list[Rewrite]:
        """Records a step of the window; at its end experts come and go."""
        settings, state = self._settings, self._state
        rewrites: list[Rewrite] = []
        end = settings.record_after + settings.record_steps
        if settings.record_after <= self._position < end:
            add_to_records(state.records, counts.to(torch.long))
        self._position += 1
        if self._position == end:
            rewrites = self._come_and_go()
        self._position %= settings.cycle
        state.position.fill_(self._position)
        return rewrites

    def _come_and_go(self) -> list[Rewrite]:
        """Experts that no token took are switched off; if some tokens took none, the first that is off is switched on
        with their direction as its vector. A gate that saw no token stays as it is."""
        state = self._state
        visible, d_model = state.weight.shape
        record = recorded(state.records).cpu().to(torch.float64) / _UNITS
        state.records.zero_()
        uses_E, lost, sum_D = record.split([visible, 1, d_model])
        was_on = state.active.cpu() > 0
        on_E = was_on & (uses_E > 0)
        off = (~on_E).nonzero().flatten().tolist()
        rewrites = []
        if off and lost > 0 and sum_D.any():
            on_E[off[0]] = True
            vector = F.normalize(sum_D, dim=0)
            rewrites = [
                Rewrite(state.weight, off[0] * d_model, vector),
                Rewrite(state.threshold, off[0], torch.zeros(1)),
            ]
        state.active.copy_(on_E if on_E.any() else was_on)
        return rewrites


def empty_records(visible: int, d_model: int) -> Tensor:
    """A record of nothing [3, E + 1 + D], int64: lowest bits first, the last part with the sign."""
    return torch.zeros(3, visible + 1 + d_model, dtype=torch.long)


def recorded(records: Tensor) -> Tensor:
    """The numbers of a record in units [E + 1 + D], int64."""
    return records[0] + (records[1] << _BITS) + (records[2] << 2 * _BITS)


def add_to_records(records: Tensor, counts: Tensor) -> None:
    """Adds to the numbers of a record, in place; ``counts`` in units [E + 1 + D], int64."""
    total, mask = recorded(records) + counts, (1 << _BITS) - 1
    records.copy_(torch.stack([total & mask, (total >> _BITS) & mask, total >> 2 * _BITS]))
