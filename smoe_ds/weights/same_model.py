"""Whether two runs train one and the same model, so that their weights can be mixed."""

from __future__ import annotations

from smoe_ds.config.section import Section
from smoe_ds.config.smoe import SmoeConfig

_MODEL_KEYS = (
    "d_model",
    "d_ffn",
    "num_heads",
    "encoder_layers",
    "decoder_layers",
    "activation",
    "position_offset",
    "scale_embedding",
    "norm_epsilon",
)
_CAPACITY_KEYS = ("language_capacity",)
_FRAMING_KEYS = ("source_language_token", "target_language_token")
"""Keys of ``smoe.data`` that say what the model is given around a sentence."""
_BLOCK_KEYS = (
    "strata",
    "stacked",
    "top_k",
    "norm",
    "combine_weights",
    "expert_output_masking",
    "expert_ffn",
    "final_output_masking",
    "shared_expert",
    "heads",
    "bias_balancing",
    "experts",
    "router",
)
"""Keys that change what given weights compute at evaluation."""


def differences(one: SmoeConfig, other: SmoeConfig) -> list[str]:
    """Keys by which the models of two runs differ, with both values."""
    outside = outside_of_blocks(one, other) + _differences("smoe.model", one.model, other.model, _CAPACITY_KEYS)
    return outside or _of_blocks(one, other)


def outside_of_blocks(one: SmoeConfig, other: SmoeConfig) -> list[str]:
    """Those of the `differences` that no training is meant to change: the model outside of MoE blocks, and framing."""
    return [
        *_differences("smoe.model", one.model, other.model, _MODEL_KEYS),
        *_differences("smoe.data", one.data, other.data, _FRAMING_KEYS),
    ]


def _of_blocks(one: SmoeConfig, other: SmoeConfig) -> list[str]:
    blocks, others = one.moe.blocks(one.model), other.moe.blocks(other.model)
    if list(blocks) != list(others):
        return [f"smoe.moe: blocks with experts are {list(blocks)} and {list(others)}"]
    found = [
        line for name, block in blocks.items() for line in _differences("smoe.moe", block, others[name], _BLOCK_KEYS)
    ]
    return list(dict.fromkeys(found))


def _differences(section: str, one: Section, other: Section, keys: tuple[str, ...]) -> list[str]:
    values = [(key, getattr(one, key), getattr(other, key)) for key in keys]
    return [f"{section}.{key} is {a!r} and {b!r}" for key, a, b in values if a != b]
