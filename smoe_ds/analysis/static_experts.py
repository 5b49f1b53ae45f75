"""Which experts a set of directions uses in blocks that give a direction the same experts whatever the text says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from smoe_ds.analysis.expert_use import ExpertUse, add_choices, no_choices
from smoe_ds.analysis.pruning import KeepRule, Pruning, experts_to_remove
from smoe_ds.config.block import BlockSettings
from smoe_ds.decode.translator import Translator
from smoe_ds.errors import ConfigError
from smoe_ds.moe.layer import StratifiedMoE


def cut_to_directions(
    translator: Translator, directions: Sequence[str], blocks: Mapping[str, BlockSettings]
) -> Pruning:
    """The experts that the directions do not use; without them, translations into their targets stay the same.

    Blocks that route by tokens keep all of their experts.

    Args:
        translator: the whole model.
        directions: those the model is to serve.
        blocks: settings of its blocks by name.

    Raises:
        ConfigError: there is no direction, or a name is none, or no block has fixed experts.
        DataError: the vocabulary lacks a target language.
    """
    static = {name: block for name, block in blocks.items() if block.router.is_static(block)}
    if not static:
        raise ConfigError(
            "--directions: no block gives a direction fixed experts, as the router task by target does with a top_k "
            "above 1; say with --keep-experts or --keep-share what is to be kept"
        )
    if not directions:
        raise ConfigError("--directions: names none; write source and target of each, such as eng-nso,nso-eng")
    targets = {direction: target_of(direction) for direction in directions}
    use = {
        direction: use_of_language(translator, translator.tokenizer.language_id(target), static)
        for direction, target in targets.items()
    }
    rule = KeepRule()
    whole: dict[str, list[int]] = {name: [] for name in blocks}
    return Pruning(
        rule=rule,
        directions=tuple(directions),
        split=None,
        corpus=None,
        use=use,
        removed=whole | experts_to_remove(use, static, rule),
        num_experts={name: sum(block.strata) for name, block in blocks.items()},
        too_long={},
        targets=tuple(sorted(set(targets.values()))),
    )


def target_of(direction: str) -> str:
    """The target language of ``eng-nso``: ``nso``.

    Raises:
        ConfigError: it has another form.
    """
    source, _, target = direction.partition("-")
    if not source or not target or "-" in target:
        raise ConfigError(f"--directions: {direction!r} is no direction; write source and target, such as eng-nso")
    return target


@torch.inference_mode()
def use_of_language(
    translator: Translator, language_id: int, blocks: Mapping[str, BlockSettings]
) -> dict[str, ExpertUse]:
    """Choices of one token of a sentence with this language, by block name, in blocks with fixed experts."""
    use = {}
    ids_BS = torch.full((1, 1), language_id, device=translator.device)
    for name in blocks:
        block = translator.model.get_submodule(name)
        assert isinstance(block, StratifiedMoE)
        x_BSD = torch.zeros(1, 1, block.d_model, device=translator.device, dtype=next(block.parameters()).dtype)
        _, stats = block(x_BSD, token_ids=ids_BS)
        use[name] = no_choices(block)
        add_choices(use[name], block, stats)
    return use
