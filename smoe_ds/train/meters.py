"""Sums over the micro-batches of a logging interval, kept on the device and fetched once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from smoe_ds.data.batch import PAD_ID, Batch
from smoe_ds.moe.losses import BALANCING
from smoe_ds.moe.placement import Placement
from smoe_ds.moe.stats import BlockStats
from smoe_ds.train.micro_step import MicroStep

_HEAD = ("smoothed", "nll", "micro_batches", "src_tokens", "tgt_tokens")


@dataclass(frozen=True)
class StratumLoad:
    """Routing of one stratum over an interval, all ranks.

    Attributes:
        tokens: share of the block's tokens that entered the stratum.
        load: rows of the busiest expert over the mean of the visible ones, before capacity; 1 is perfect.
        dropped: share of the rows that found no room in their expert.
        entropy: mean entropy of the gate [nat].
        choices: experts that a token wants, mean.
        width: mean inner width of those; None where all are equal.
        rows: rows of each visible expert, before capacity, all choices together.
        first_expert: number of the first visible expert in its block.
    """

    tokens: float
    load: float
    dropped: float
    entropy: float
    choices: float
    width: float | None = None
    rows: tuple[float, ...] = ()
    first_expert: int = 0

    @property
    def dead(self) -> int:
        """Visible experts that no token wanted."""
        return sum(value == 0 for value in self.rows)


@dataclass(frozen=True)
class Interval:
    """Means over a logging interval and all ranks.

    Attributes:
        loss: label-smoothed cross-entropy per target token [nat].
        nll: negative log-likelihood per target token [nat].
        auxiliary: auxiliary losses by name, unweighted; empty in a dense model.
        tokens: source and target tokens, padding excluded.
        requested_capacity: mean strata per token, by block.
        strata: load of each stratum, by block.
        nll_by_direction: ``nll`` of each direction that had text in the interval [nat].
    """

    loss: float
    nll: float
    tokens: int
    auxiliary: dict[str, float] = field(default_factory=dict)
    requested_capacity: dict[str, float] = field(default_factory=dict)
    strata: dict[str, list[StratumLoad]] = field(default_factory=dict)
    nll_by_direction: dict[str, float] = field(default_factory=dict)

    @property
    def balance_loss(self) -> float | None:
        """The loss that balances the experts; None without, as in a dense model."""
        return next((self.auxiliary[name] for name in BALANCING if name in self.auxiliary), None)

    @property
    def mean_rc(self) -> float | None:
        """Requested capacity averaged over blocks; None in a dense model."""
        values = list(self.requested_capacity.values())
        return sum(values) / len(values) if values else None


class Meter:
    """Accumulates the micro-steps of whole steps until :meth:`take`.

    Args:
        block_names: name of each stratified block, in the order of the statistics.
        sum_over_ranks: sums a float64 vector over all ranks.
        directions: trained directions, whose losses are told apart; none: they are not.
        placements: experts of each block; none: all strata see experts from the first one on.
    """

    def __init__(
        self,
        block_names: Sequence[str],
        sum_over_ranks: Callable[[Tensor], Tensor],
        directions: Sequence[str] = (),
        placements: Sequence[Placement] = (),
    ) -> None:
        self._block_names = list(block_names)
        self._directions = {direction: place for place, direction in enumerate(directions)}
        self._placements = list(placements)
        self._sum_over_ranks = sum_over_ranks
        self._total: Tensor | None = None
        self._step: Tensor | None = None
        self._left_out: Tensor | None = None
        self._sizes: list[list[tuple[int, int]]] = []
        self._widths: list[list[Tensor | None]] = []
        self._auxiliary: list[str] = []

    def add(self, micro_step: MicroStep, batch: Batch) -> None:
        """Counts one micro-batch of this rank."""
        head = [
            micro_step.translation.smoothed.detach(),
            micro_step.translation.nll,
            *(torch.tensor(float(n)) for n in (1, batch.num_src_tokens, batch.num_tgt_tokens)),
            *micro_step.auxiliary.values(),
        ]
        self._auxiliary = list(micro_step.auxiliary)
        device = head[0].device
        parts = [torch.stack([value.to(device, torch.float64) for value in head])]
        parts += self._by_direction(micro_step, batch, device)
        self._sizes = []
        self._widths = [[stratum.widths_E for stratum in block.strata] for block in micro_step.stats]
        for block in micro_step.stats:
            parts += [part.to(device) for part in _block_vector(block)]
            self._sizes.append([tuple(s.requested_KE.shape) for s in block.strata])  # type: ignore[misc]
        vector = torch.cat(parts)
        self._step = vector if self._step is None else self._step + vector

    def _by_direction(self, micro_step: MicroStep, batch: Batch, device: torch.device) -> list[Tensor]:
        """NLL and target tokens of each direction."""
        nll_B = micro_step.translation.nll_B
        if not self._directions:
            return []
        assert nll_B is not None
        place_B = torch.tensor([self._directions.get(name, 0) for name in batch.directions])  # an empty batch adds 0
        tokens_B = (batch.tgt_out != PAD_ID).sum(dim=1).double()
        sums = torch.zeros(2, len(self._directions), dtype=torch.float64, device=device)
        place_B = place_B.to(device, non_blocking=True)
        sums[0].index_add_(0, place_B, nll_B.double())
        sums[1].index_add_(0, place_B, tokens_B.to(device, non_blocking=True))
        return [sums.flatten()]

    def end_step(self, *, keep: bool) -> None:
        """Puts the micro-batches of a step into the means, or leaves them out; the same on all ranks."""
        assert self._step is not None
        if keep:
            self._total = self._step if self._total is None else self._total + self._step
        else:
            self._left_out = self._step
        self._step = None

    def take(self) -> Interval:
        """Means since the last call, over all ranks; a step left out shows only where there is no other.

        A collective; a step must have ended since.
        """
        total = self._left_out if self._total is None else self._total
        assert total is not None
        numbers = iter(self._sum_over_ranks(total).tolist())
        self._total = self._left_out = None
        head = {name: next(numbers) for name in (*_HEAD, *self._auxiliary)}
        nll, tokens = ([next(numbers) for _ in self._directions] for _ in range(2))
        rc: dict[str, float] = {}
        strata: dict[str, list[StratumLoad]] = {}
        for name, sizes, widths in zip(self._block_names, self._sizes, self._widths, strict=True):
            rows = [[next(numbers) for _ in range(3 + k * e)] for k, e in sizes]
            block_tokens = max(rows[0][0], 1.0)
            rc[name] = sum(row[0] for row in rows) / block_tokens
            loads = [_stratum_load(*of, block_tokens) for of in zip(rows, sizes, widths, strict=True)]
            strata[name] = self._placed(len(strata), loads)
        tgt_tokens = max(head["tgt_tokens"], 1.0)
        return Interval(
            loss=head["smoothed"] / tgt_tokens,
            nll=head["nll"] / tgt_tokens,
            tokens=int(head["src_tokens"] + head["tgt_tokens"]),
            auxiliary={name: head[name] / head["micro_batches"] for name in self._auxiliary},
            requested_capacity=rc,
            strata=strata,
            nll_by_direction={
                name: one / count for name, one, count in zip(self._directions, nll, tokens, strict=True) if count
            },
        )

    def _placed(self, block: int, loads: list[StratumLoad]) -> list[StratumLoad]:
        """Loads that know which experts of their block they are of."""
        if not self._placements:
            return loads
        placement = self._placements[block]
        return [replace(load, first_expert=placement.first_expert(i)) for i, load in enumerate(loads)]


def _block_vector(block: BlockStats) -> list[Tensor]:
    parts = []
    for stratum in block.strata:
        device = stratum.requested_KE.device
        head = torch.tensor([stratum.num_tokens, stratum.num_dropped], dtype=torch.float64, device=device)
        parts += [head, stratum.entropy_sum.double().view(1), stratum.requested_KE.double().flatten()]
    return parts


def _stratum_load(row: list[float], size: tuple[int, int], widths_E: Tensor | None, block_tokens: float) -> StratumLoad:
    tokens, dropped, entropy, *requested = row
    num_choices, num_experts = size
    per_expert = [sum(requested[k * num_experts + e] for k in range(num_choices)) for e in range(num_experts)]
    rows = sum(per_expert)
    width = None
    if widths_E is not None:
        width = sum(n * one for n, one in zip(per_expert, widths_E.tolist(), strict=True)) / max(rows, 1)
    return StratumLoad(
        tokens=tokens / block_tokens,
        load=max(per_expert) * num_experts / rows if rows else 1.0,
        dropped=dropped / rows if rows else 0.0,
        entropy=entropy / tokens if tokens else 0.0,
        choices=rows / tokens if tokens else 0.0,
        width=width,
        rows=tuple(per_expert),
    )
