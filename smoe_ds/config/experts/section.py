"""What a section on experts has to tell: its settings, how they are built, and what they cannot work with."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from smoe_ds.config.section import Section


class ExpertsSection(Section):
    """``smoe.moe.experts``: what an expert is; each kind is a class of its own.

    Class attributes:
        module: where what the experts of a block share is built, ``"package.module:Class"``, a
            :class:`smoe_ds.moe.common.Common`; None: they share nothing.
        per_row: whether a feed-forward network is computed for every expert that a token chooses; else once a token.
        loop_only: why grouped matrix products and the lean way cannot compute them; None if they can.
        one_rank: why they are not spread over ranks; None if they can be.
        one_width: why they cannot differ in width; None if they can.
    """

    kind: str
    module: ClassVar[str | None] = None
    per_row: ClassVar[bool] = True
    loop_only: ClassVar[str | None] = None
    one_rank: ClassVar[str | None] = None
    one_width: ClassVar[str | None] = None

    def build(self, d_model: int, d_ffn: int, activation: str) -> Any:
        """What the experts of one block share, a :class:`smoe_ds.moe.common.Common`; None if nothing."""
        if self.module is None:
            return None
        name, _, attribute = self.module.partition(":")
        return getattr(import_module(name), attribute)(self, d_model, d_ffn, activation)
