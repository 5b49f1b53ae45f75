"""Whether two runs train one and the same model, so that their weights can be mixed."""

from __future__ import annotations

from smoe_ds.config.smoe import SmoeConfig

_DECIDE_THE_MODEL = {
    "model": ("d_model", "d_ffn", "num_heads", "encoder_layers", "decoder_layers", "activation"),
    "moe": (
        "strata",
        "stacked",
        "top_k",
        "every",
        "norm",
        "combine_weights",
        "expert_output_masking",
        "shared_expert",
        "bias_balancing",
    ),
}
"""Keys that change what given weights compute at evaluation."""


def differences(one: SmoeConfig, other: SmoeConfig) -> list[str]:
    """Keys by which the models of two runs differ, with both values."""
    sections = [(one, other, section, key) for section, keys in _DECIDE_THE_MODEL.items() for key in keys]
    if one.moe.is_dense and other.moe.is_dense:
        sections = [entry for entry in sections if entry[2] == "model"]
    return [
        f"smoe.{section}.{key} is {getattr(getattr(a, section), key)!r} and {getattr(getattr(b, section), key)!r}"
        for a, b, section, key in sections
        if getattr(getattr(a, section), key) != getattr(getattr(b, section), key)
    ]
