"""Sums over the micro-batches of a logging interval, kept on the device and fetched once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from smoe_ds.data.batch import Batch
from smoe_ds.moe.losses import LOAD_BALANCING
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
    """

    tokens: float
    load: float
    dropped: float
    entropy: float


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
    """

    loss: float
    nll: float
    tokens: int
    auxiliary: dict[str, float] = field(default_factory=dict)
    requested_capacity: dict[str, float] = field(default_factory=dict)
    strata: dict[str, list[StratumLoad]] = field(default_factory=dict)

    @property
    def balance_loss(self) -> float | None:
        """Load-balancing loss; None in a dense model."""
        return self.auxiliary.get(LOAD_BALANCING)

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
    """

    def __init__(self, block_names: Sequence[str], sum_over_ranks: Callable[[Tensor], Tensor]) -> None:
        self._block_names = list(block_names)
        self._sum_over_ranks = sum_over_ranks
        self._total: Tensor | None = None
        self._step: Tensor | None = None
        self._left_out: Tensor | None = None
        self._sizes: list[list[tuple[int, int]]] = []
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
        self._sizes = []
        for block in micro_step.stats:
            parts += [part.to(device) for part in _block_vector(block)]
            self._sizes.append([tuple(s.requested_KE.shape) for s in block.strata])  # type: ignore[misc]
        vector = torch.cat(parts)
        self._step = vector if self._step is None else self._step + vector

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
        rc, strata = {}, {}
        for name, sizes in zip(self._block_names, self._sizes, strict=True):
            rows = [[next(numbers) for _ in range(3 + k * e)] for k, e in sizes]
            block_tokens = max(rows[0][0], 1.0)
            rc[name] = sum(row[0] for row in rows) / block_tokens
            strata[name] = [_stratum_load(row, block_tokens, size) for row, size in zip(rows, sizes, strict=True)]
        tgt_tokens = max(head["tgt_tokens"], 1.0)
        return Interval(
            loss=head["smoothed"] / tgt_tokens,
            nll=head["nll"] / tgt_tokens,
            tokens=int(head["src_tokens"] + head["tgt_tokens"]),
            auxiliary={name: head[name] / head["micro_batches"] for name in self._auxiliary},
            requested_capacity=rc,
            strata=strata,
        )


def _block_vector(block: BlockStats) -> list[Tensor]:
    parts = []
    for stratum in block.strata:
        device = stratum.requested_KE.device
        head = torch.tensor([stratum.num_tokens, stratum.num_dropped], dtype=torch.float64, device=device)
        parts += [head, stratum.entropy_sum.double().view(1), stratum.requested_KE.double().flatten()]
    return parts


def _stratum_load(row: list[float], block_tokens: float, size: tuple[int, int]) -> StratumLoad:
    tokens, dropped, entropy, *requested = row
    num_choices, num_experts = size
    per_expert = [sum(requested[k * num_experts + e] for k in range(num_choices)) for e in range(num_experts)]
    rows = sum(per_expert)
    return StratumLoad(
        tokens=tokens / block_tokens,
        load=max(per_expert) * num_experts / rows if rows else 1.0,
        dropped=dropped / rows if rows else 0.0,
        entropy=entropy / tokens if tokens else 0.0,
    )
