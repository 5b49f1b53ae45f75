"""``smoe``: everything of ours in a run file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase

from pydantic import Field

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.data import DataConfig
from smoe_ds.config.decode import DecodeConfig
from smoe_ds.config.heads import head_problems
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.routers.section import Side
from smoe_ds.config.section import Section
from smoe_ds.config.train import TrainConfig


class SmoeConfig(Section):
    """The section ``"smoe"``: model, experts, data, training, decoding."""

    model: ModelConfig = Field(default_factory=lambda: ModelConfig(), description="The transformer.")
    moe: MoeConfig = Field(default_factory=lambda: MoeConfig(), description="The stratified blocks.")
    data: DataConfig = Field(description="The prepared corpus: at least its path.")
    train: TrainConfig = Field(description="The run: at least its output_dir.")
    decode: DecodeConfig = Field(default_factory=lambda: DecodeConfig(), description="Beam search.")

    def rules(self) -> Iterator[tuple[str, str]]:
        try:
            blocks = self.moe.blocks(self.model)
        except ValueError as error:
            yield "moe.layers", str(error)
            return
        yield from self._loss_problems(blocks.values())
        yield from self._rate_problems(blocks.values())
        for name, block in blocks.items():
            yield from self._block_problems(name, block)
        yield from self._entry_problems(blocks)
        if self.model.language_capacity.languages:
            for key in ("source_language_token", "target_language_token"):
                if (value := getattr(self.data, key)) is not True:
                    yield (
                        f"data.{key}",
                        f"is {json.dumps(value)}, but model.language_capacity needs it to find the language; set it to "
                        "true",
                    )
        layers = max(self.model.encoder_layers, self.model.decoder_layers)
        if self.moe.strata and not self.moe.layers and self.moe.every > layers:
            yield (
                "moe.every",
                f"every {self.moe.every}th layer of at most {layers} has experts, so none does; "
                f"choose {layers} or less, or strata [] for a dense model",
            )

    def _block_problems(self, name: str, block: BlockSettings) -> Iterator[tuple[str, str]]:
        """What the model, the data and the ranks do not allow a block."""
        side: Side = "encoder" if name.startswith("encoder") else "decoder"
        if problem := block.router.problem_on(side):
            yield "moe.router", f"{name}: {problem}"
        for token, needed in block.router.language_tokens(side).items():
            if (value := getattr(self.data, token)) != needed:
                found, remedy = json.dumps(value), json.dumps(needed)
                yield f"data.{token}", f"{found}, but the router of {name} goes by that token; set it to {remedy}"
        for key, problem in head_problems(block, self.model.d_model, self.model.d_ffn, self.model.activation):
            yield f"moe.{key}", f"{name}: {problem}"
        if block.strata != self.moe.strata and (problem := self.moe.spread_problem(block)):
            yield "moe.layers", f"{name}: ep_size {problem}"
        try:
            block.widths(self.model.d_ffn)
        except ValueError as error:
            yield "moe.expert_widths", f"{name}: {str(error).removeprefix('expert_widths: ')}"

    def _entry_problems(self, blocks: Mapping[str, BlockSettings]) -> Iterator[tuple[str, str]]:
        """Entries of ``layers`` that change nothing."""
        depths = {"encoder": self.model.encoder_layers, "decoder": self.model.decoder_layers}
        names = [f"{side}.{i + 1}" for side, number in depths.items() for i in range(number)]
        with_experts = {f"{side}.{int(layer) + 1}" for side, _, layer, _ in (name.split(".") for name in blocks)}
        for pattern, changes in self.moe.layers.items():
            meant = {name for name in names if fnmatchcase(name, pattern)}
            if not meant:
                yield "moe.layers", f"{pattern} is no layer; expected names from {names[0]} to {names[-1]}, or patterns"
            elif "strata" not in changes and not meant & with_experts:
                yield "moe.layers", f"{pattern} has no experts to change; give it strata, or leave it out"

    def _rate_problems(self, blocks: Collection[BlockSettings]) -> Iterator[tuple[str, str]]:
        """Learning rates of parameters that the model does not have."""
        gates = bool(self.model.language_capacity.languages) or any(block.learns_routing for block in blocks)
        lacking = "routed experts" if not blocks else "gates, and its routers learn nothing"
        for key, has in (("expert_lr_factor", bool(blocks)), ("gate_lr_factor", gates)):
            if (value := getattr(self.train, key)) != 1 and not has:
                yield f"train.{key}", f"is {value:g}, but this model has no {lacking}; leave it out"

    def _loss_problems(self, blocks: Collection[BlockSettings]) -> Iterator[tuple[str, str]]:
        """A loss of routers' own has one weight in a run, and so has the consistency of two passes."""
        weights = sorted({block.router.consistency_weight() for block in blocks} - {0.0})
        if len(weights) > 1:
            yield (
                "moe.layers",
                f"blocks want the consistency loss with weights {', '.join(f'{weight:g}' for weight in weights)}, but "
                "there is one such loss; give their routers the same consistency",
            )
        found: dict[str, float] = {}
        for block in blocks:
            for name, weight in block.router.losses().items():
                if found.setdefault(name, weight) != weight:
                    yield (
                        "moe.layers",
                        f"blocks want the {name} with weights {found[name]:g} and {weight:g}, but there is one such "
                        "loss; give their routers the same weight",
                    )
                    return
