"""The routers that a block may have; to add one, write its section, its module, and its line in ``ROUTERS``."""

from __future__ import annotations

from typing import Any, Union

from smoe_ds.config.routers.base import Base
from smoe_ds.config.routers.dynamic import Dynamic
from smoe_ds.config.routers.expert_choice import ExpertChoice
from smoe_ds.config.routers.hash import Hash
from smoe_ds.config.routers.random import Random
from smoe_ds.config.routers.section import RouterSection
from smoe_ds.config.routers.sinkhorn import Sinkhorn
from smoe_ds.config.routers.task import Task
from smoe_ds.config.routers.top_k import TopK
from smoe_ds.config.routers.top_p import TopP

ROUTERS: tuple[type[RouterSection], ...] = (
    TopK,
    Hash,
    Base,
    ExpertChoice,
    Random,
    Task,
    Dynamic,
    TopP,
    Sinkhorn,
)

AnyRouter: Any = Union[ROUTERS]  # noqa: UP007 - of a tuple
"""The type of ``smoe.moe.router``: the section whose ``kind`` is given."""
