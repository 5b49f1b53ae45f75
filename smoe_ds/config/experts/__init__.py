"""The kinds of experts that a block may have; a new one needs a section, a module, its cost, and its line here."""

from __future__ import annotations

from typing import Any, Union

from smoe_ds.config.experts.adapters import Adapters
from smoe_ds.config.experts.ffn import Ffn
from smoe_ds.config.experts.mpo import Mpo
from smoe_ds.config.experts.section import ExpertsSection

EXPERTS: tuple[type[ExpertsSection], ...] = (
    Ffn,
    Adapters,
    Mpo,
)

AnyExperts: Any = Union[EXPERTS]  # noqa: UP007 - of a tuple
"""The type of ``smoe.moe.experts``: the section whose ``kind`` is given."""
