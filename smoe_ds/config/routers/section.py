"""What a router's section of a run file has to tell: its settings, what it can work with, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar, Literal

from smoe_ds.config.routing import RoutingSettings
from smoe_ds.config.section import Section

Side = Literal["encoder", "decoder"]

FIRST_TOKEN: Mapping[Side, Mapping[str, bool]] = {
    "encoder": {"source_language_token": True},
    "decoder": {"target_language_token": True},
}
"""What ``smoe.data`` has to say so that the first token of a side's sentences is that of the target language."""


class RouterSection(Section):
    """``smoe.moe.router``: how the tokens of a stratum find their experts; each kind is a class of its own.

    Class attributes:
        module: where the router is built, ``"package.module:Class"``.
        heeds: the :data:`smoe_ds.config.routing.ROUTING_KEYS` that it uses; others are refused beside it. Without
            ``capacity_factor`` its experts have no capacity.
        balanced: whether it has gate probabilities, which the load-balancing loss and the z-loss are taken of.
        uses_load_balancing: whether the load-balancing loss is added for it.
        can_stay_local: whether it can choose among the experts of one rank (``gating_dropout_mode: local``).
        prunable: whether experts can be left out of a trained model.
        needs: what it reads beside the tokens' vectors: ``token_ids``, ``language``, ``sentence``.
    """

    kind: str
    module: ClassVar[str]
    heeds: ClassVar[frozenset[str]] = frozenset()
    balanced: ClassVar[bool] = True
    uses_load_balancing: ClassVar[bool] = True
    can_stay_local: ClassVar[bool] = True
    prunable: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    def fewest_experts(self, block: RoutingSettings) -> int:
        """Experts that a gate must see at least."""
        return 1

    def mean_choices(self, block: RoutingSettings, visible: int) -> float:
        """Rows that a token makes in one stratum, expected at the start of training.

        Args:
            block: the settings of the block.
            visible: experts that the gate sees, E.
        """
        return 1.0

    def gate_rows(self, visible: int) -> int:
        """Rows of the gate's weight [rows, D]: E for a linear gate, 0 for a router without one."""
        return visible

    def own_parameters(self, d_model: int, visible: int) -> int:
        """Parameters of the router beside the gate's weight."""
        return 0

    def gate_flops(self, d_model: int, visible: int) -> float:
        """FLOPs of one token's routing, matrix products alone."""
        return 2.0 * self.gate_rows(visible) * d_model

    def losses(self) -> dict[str, float]:
        """The router's own losses: name and weight; each is the mean over tokens of sums of that name in its stats."""
        return {}

    def consistency_weight(self) -> float:
        """Weight of the loss by which two passes of a micro-batch learn to agree; 0: there is one pass."""
        return 0.0

    def problems(self, block: RoutingSettings) -> Iterator[tuple[str, str]]:
        """``(key, what is wrong and the remedy)`` for every setting of the block that it cannot work with."""
        return iter(())

    def problem_on(self, side: Side) -> str | None:
        """Why it cannot work in the encoder or the decoder, with the remedy; None if it can."""
        return None

    def language_tokens(self, side: Side) -> Mapping[str, bool | str]:
        """What it needs of ``smoe.data``, by key, to find the languages of the sentences that it routes."""
        return {}

    def reads_pair(self) -> bool:
        """Whether it goes by the languages of both sides, which the model has to hand in."""
        return False

    def problem_with_languages(self, highest_id: int) -> str | None:
        """Why it cannot work with a vocabulary, with the remedy; None if it can.

        Args:
            highest_id: of the vocabulary's language tokens.
        """
        return None

    def is_static(self, block: RoutingSettings) -> bool:
        """Whether a direction's experts are fixed, and their weights independent of the gate's other experts."""
        return False

    def build(self, block: RoutingSettings, d_model: int, visible: int) -> Any:
        """The router of one stratum, a :class:`smoe_ds.moe.routers.router.Router`."""
        name, _, attribute = self.module.partition(":")
        return getattr(import_module(name), attribute)(block, d_model, visible)
