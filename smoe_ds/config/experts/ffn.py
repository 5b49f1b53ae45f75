"""``kind: ffn``: every expert is a feed-forward network of its own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from smoe_ds.config.experts.section import ExpertsSection


class Ffn(ExpertsSection):
    """The experts of the paper."""

    kind: Literal["ffn"] = Field(default="ffn", description="Each expert is a feed-forward network (the paper).")
