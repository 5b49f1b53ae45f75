"""``kind: hash``: a fixed table from ids to experts; nothing to learn, nothing to balance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from smoe_ds.config.routers.section import FIRST_TOKEN, RouterSection, Side


class Hash(RouterSection):
    """Hash layers (arXiv 2106.04426): the expert is a function of the token's id, or of the sentence's language."""

    module: ClassVar[str] = "smoe_ds.moe.routers.hash:HashRouter"
    heeds: ClassVar[frozenset[str]] = frozenset({"capacity_factor"})
    balanced: ClassVar[bool] = False
    can_stay_local: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"token_ids"})

    kind: Literal["hash"] = Field(
        default="hash", description="One expert, from a fixed table of token ids (Hash layers)."
    )
    by: Literal["token", "language"] = Field(
        default="token",
        description="What is looked up: the token's id, or that of its sentence's first token, the language token.",
    )
    table: Literal["random", "even", "balanced"] = Field(
        default="even",
        description="random: each id draws an expert; even: ids in the order of their numbers, which is that of "
        "falling frequency in SentencePiece's vocabularies, each to the expert with the smallest load so far; "
        "balanced: the same, but the first ids count for more, padding too, so that an expert may be left without "
        "tokens: for runs that were trained with it.",
    )

    def language_tokens(self, side: Side) -> Mapping[str, bool | str]:
        return FIRST_TOKEN[side] if self.by == "language" else {}

    def gate_rows(self, visible: int) -> int:
        return 0
