"""``kind: task``: one set of experts for a whole sentence, chosen by its task, not by its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from smoe_ds.config.routers.section import FIRST_TOKEN, RouterSection, Side
from smoe_ds.config.routing import RoutingSettings


class Task(RouterSection):
    """Task-level routing (arXiv 2110.03742): the gate reads an embedding of the task, or the mean of the sentence.

    The set of a task does not change once the model is trained. Experts have no capacity, since a batch of one
    direction goes to one set.
    """

    module: ClassVar[str] = "smoe_ds.moe.routers.task:TaskRouter"
    heeds: ClassVar[frozenset[str]] = frozenset({"top_k"})
    prunable: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"language", "sentence"})

    kind: Literal["task"] = Field(
        default="task", description="The same top_k experts for all tokens of a sentence (task-level routing)."
    )
    by: Literal["target", "pair", "sentence"] = Field(
        default="target",
        description="What the gate reads. target: an embedding of the target language; pair: those of source and "
        "target, added; sentence: the mean of the sentence's tokens (encoder only).",
    )
    tasks: int = Field(
        default=256,
        gt=0,
        description="Rows of the table of embeddings; above the id of every language token. by sentence has no table.",
    )

    def fewest_experts(self, block: RoutingSettings) -> int:
        return block.top_k

    def mean_choices(self, block: RoutingSettings, visible: int) -> float:
        return float(block.top_k)

    def own_parameters(self, d_model: int, visible: int) -> int:
        return {"target": 1, "pair": 2, "sentence": 0}[self.by] * self.tasks * d_model

    def gate_flops(self, d_model: int, visible: int) -> float:
        return 0.0  # the gate reads a row for each task or sentence, not for each token

    def language_tokens(self, side: Side) -> Mapping[str, bool | str]:
        if self.by == "pair":
            return {"source_language_token": "source", "target_language_token": True}
        return FIRST_TOKEN[side] if self.by == "target" else {}

    def reads_pair(self) -> bool:
        return self.by == "pair"

    def is_static(self, block: RoutingSettings) -> bool:
        return self.by == "target" and block.top_k > 1

    def problem_on(self, side: Side) -> str | None:
        if self.by == "sentence" and side == "decoder":
            return (
                "the mean of a sentence is not known while it is written; set by to target or pair, or use it in the "
                "encoder"
            )
        return None

    def problem_with_languages(self, highest_id: int) -> str | None:
        if self.by != "sentence" and highest_id >= self.tasks:
            return f"tasks is {self.tasks}, but language tokens have ids up to {highest_id}; set it above {highest_id}"
        return None
