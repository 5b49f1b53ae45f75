"""How much of the validation text a validation reads, and how much is left out as too long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from smoe_ds.data.validation_batches import ValidationBatches


@dataclass(frozen=True)
class Coverage:
    """Sentence pairs of all directions.

    Attributes:
        read: pairs that a validation reads.
        too_long: pairs left out as too long for the model or for a micro-batch.
        total: all pairs.
        worst: of the directions the one that loses the largest share as too long; "" if none does.
        worst_share: that share, 0 to 1.
    """

    read: int
    too_long: int
    total: int
    worst: str = ""
    worst_share: float = 0.0

    @classmethod
    def of(cls, batches: Mapping[str, ValidationBatches]) -> Coverage:
        """Of the batches of every direction."""
        shares = {name: one.skipped / one.num_available for name, one in batches.items() if one.skipped}
        worst = max(shares, key=lambda name: shares[name], default="")
        return cls(
            read=sum(one.num_sentences for one in batches.values()),
            too_long=sum(one.skipped for one in batches.values()),
            total=sum(one.num_available for one in batches.values()),
            worst=worst,
            worst_share=shares.get(worst, 0.0),
        )

    @property
    def text(self) -> str:
        """``8 of 30 pairs, 22 too long``; "" where all are read."""
        if self.read == self.total:
            return ""
        too_long = f", {self.too_long:,} too long" if self.too_long else ""
        return f"{self.read:,} of {self.total:,} pairs{too_long}"

    @property
    def warning(self) -> str:
        """What to know before the first step; "" where nothing is too long."""
        if not self.too_long:
            return ""
        return (
            f"warning: validation leaves out {self.too_long:,} of {self.total:,} sentence pairs, longer than "
            f"smoe.model.max_positions or smoe.data.max_tokens; most in {self.worst} ({self.worst_share:.0%})"
        )
