"""``smoe.moe``: which layers have blocks with experts, what these are, and the losses that they bring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import Field, ValidationError

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.problems import dotted, rephrase
from smoe_ds.config.routers import ROUTERS
from smoe_ds.config.routing import ROUTING_KEYS

_OF_ALL_BLOCKS = {"expert_backend", "exchange_chunks"}


class MoeConfig(BlockSettings):
    """The blocks of a run. A dense model is ``strata: []``, vanilla MoE ``[16]``, Switch ``[16]`` with ``top_k: 1``.

    The keys of :class:`BlockSettings` hold for every block; ``layers`` changes them for some.
    """

    num_experts: int | None = Field(
        default=None, description="If set, strata must sum to it; guards against typing errors."
    )
    every: int = Field(
        default=2, gt=0, description="2: every second layer has experts instead of one feed-forward network."
    )
    ep_size: int = Field(default=1, gt=0, description="Expert-parallel size: ranks that share one copy of the experts.")
    cmr_budget: float = Field(
        default=0.8, ge=0, le=1, description="CMR: the share of the routed experts that the gate is trained towards."
    )
    cmr_weight: float = Field(default=0.01, ge=0, description="CMR: weight of the loss |mean gate - cmr_budget|.")
    load_balancing_weight: float = Field(default=0.01, ge=0, description="Weight of the load-balancing loss (Eq. 8).")
    balance_loss: Literal["switch", "p_penalty"] = Field(
        default="switch",
        description="What load_balancing_weight is the weight of. switch: the load-balancing loss (Eq. 8); p_penalty: "
        "HMoE's, where each expert's load is that of all choices times its width, so that wide ones are used less.",
    )
    router_z_weight: float = Field(
        default=0.0, ge=0, description="Weight of the router z-loss, the mean squared log-sum-exp of the gates' logits."
    )
    load_balancing_batch: Literal["global", "local"] = Field(
        default="global",
        description="Tokens over which the balance loss is taken. global: the micro-batches that all ranks run at the "
        "same moment; local: each rank's own.",
    )
    layers: dict[str, dict[str, Any]] = Field(
        default={},
        description="Settings of single layers, by side and number from 1, patterns allowed: "
        '{"encoder.6": {"strata": [4, 12]}, "decoder.*": {"top_k": 1}}. An entry with strata makes the layer a block '
        "([]: dense); others change layers that are blocks anyway. Later entries win. A router of its own takes from "
        "the keys of all blocks only those that it uses.",
    )

    def rules(self) -> Iterator[tuple[str, str]]:
        yield from super().rules()
        total = sum(self.strata)
        if self.num_experts is not None and self.num_experts != total:
            yield (
                "strata",
                f"{self.strata} sums to {total} experts, but num_experts is {self.num_experts}; "
                f"change strata or set num_experts to {total}",
            )
        if problem := self.spread_problem(self):
            yield "ep_size", problem
        if self.router_z_weight and not self.router.balanced and not self.layers and not self.is_dense:
            yield (
                "router_z_weight",
                f"is {self.router_z_weight:g}, but the router {self.router.kind} has no softmax gate to take it of; "
                "set it to 0",
            )
        if self.expert_backend == "lean" and self.ep_size > 1:
            yield "expert_backend", f"lean needs all experts on one rank, but ep_size is {self.ep_size}; set it to auto"
        for pattern, changes in self.layers.items():
            if whole := sorted(_OF_ALL_BLOCKS & set(changes)):
                yield "layers", f"{pattern}: {whole[0]} is one for all blocks; set it in smoe.moe itself"

    def spread_problem(self, block: BlockSettings) -> str | None:
        """Why the experts of a block cannot be spread over ``ep_size`` ranks."""
        total = sum(block.strata)
        if self.ep_size > 1 and total and block.experts.one_rank:
            return f"is {self.ep_size}, but {block.experts.one_rank}; set it to 1"
        if not total % self.ep_size:
            return None
        divisors = [n for n in range(1, total + 1) if total % n == 0]
        return f"{self.ep_size} does not divide the {total} experts; choose one of {divisors}"

    def _changed(self, changes: Sequence[Mapping[str, Any]]) -> BlockSettings:
        """The settings of a block with some changed; another router takes those that it uses, and its own."""
        change = {key: value for one in changes for key, value in one.items()}
        kept = self.model_fields_set & BlockSettings.model_fields.keys()
        if isinstance(router := change.get("router"), Mapping):
            used = {kind.model_fields["kind"].default: kind.heeds for kind in ROUTERS}
            kept -= ROUTING_KEYS - used.get(router.get("kind"), ROUTING_KEYS)
        return BlockSettings(**{key: getattr(self, key) for key in kept} | change)

    def blocks(self, model: ModelConfig) -> dict[str, BlockSettings]:
        """The blocks of a model by their module's name, encoder first; none in a dense model.

        Raises:
            ValueError: the entries of ``layers`` make a block that cannot be; says which.
        """
        made: dict[tuple[str, ...], BlockSettings] = {}
        blocks = {}
        for side, number in (("encoder", model.encoder_layers), ("decoder", model.decoder_layers)):
            for layer in range(number):
                patterns = tuple(name for name in self.layers if fnmatchcase(f"{side}.{layer + 1}", name))
                if (layer + 1) % self.every and not any("strata" in self.layers[name] for name in patterns):
                    continue
                if patterns not in made:
                    try:
                        made[patterns] = self._changed([self.layers[name] for name in patterns])
                    except ValidationError as error:
                        problem = next(rephrase(error, BlockSettings, (), {}))
                        where = f"{dotted(problem.path)}: " if problem.path else ""
                        raise ValueError(f"{side}.{layer + 1}: {where}{problem.message}") from None
                if not made[patterns].is_dense:
                    blocks[f"{side}.layers.{layer}.ffn"] = made[patterns]
        return blocks

    def consistency_weight(self, model: ModelConfig) -> float:
        """Weight of the loss by which two passes learn to agree, see :class:`smoe_ds.config.routers.RouterSection`; 0
        where no block asks for it, and training has one pass."""
        return max((block.router.consistency_weight() for block in self.blocks(model).values()), default=0.0)

    @property
    def is_dense(self) -> bool:
        """Whether the model has no block with experts at all."""
        return not self.strata and not any(change.get("strata") for change in self.layers.values())
