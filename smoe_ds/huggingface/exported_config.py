"""The ``config.json`` that transformers needs for a model of ours, or why it has none."""

from __future__ import annotations

from typing import Any

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.data import DataConfig
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.errors import ConfigError
from smoe_ds.huggingface.folder import M2M_100, NLLB_MOE
from smoe_ds.huggingface.settings import FRAMING, LEGACY_FRAMING, NORM_EPSILON, POSITION_OFFSET, TOKENS

_SAME_AS_DEFAULT = (
    "stacked",
    "norm",
    "gate_scores",
    "final_output_masking",
    "shared_expert",
    "heads",
    "bias_balancing",
    "expert_ffn",
    "expert_widths",
)
"""Keys of a block by which it would compute what NLLB-MoE does not, unless they are at their defaults."""
_ALWAYS = {
    "activation_dropout": 0.0,
    "is_encoder_decoder": True,
    "tie_word_embeddings": True,
    "use_cache": True,
} | TOKENS
_INSTEAD = "export it in our own format (--format smoe_ds)"


def check_not_stratified(smoe: SmoeConfig, name: str) -> None:
    """Refuses strata for a format that has none.

    Raises:
        ConfigError: a block has several.
    """
    for block, settings in smoe.moe.blocks(smoe.model).items():
        if len(settings.strata) > 1:
            raise ConfigError(
                f"--format {name}: {block} has strata {settings.strata}, and in no model there does a token pass one "
                f"expert after the other; {_INSTEAD}, or train a dense or a vanilla model (one stratum) on its "
                "translations and export that"
            )


def check_common(smoe: SmoeConfig, name: str) -> None:
    """Refuses what neither transformers' models nor CTranslate2's compute.

    Raises:
        ConfigError: says which setting it is.
    """
    check_not_stratified(smoe, name)
    if smoe.model.activation == "swiglu":
        raise ConfigError(f"--format {name}: smoe.model.activation is swiglu, which models there lack; {_INSTEAD}")
    if smoe.model.language_capacity.languages:
        raise ConfigError(f"--format {name}: smoe.model.language_capacity has no counterpart there; {_INSTEAD}")


def exported_config(smoe: SmoeConfig, vocab_size: int) -> dict[str, Any]:
    """Content of ``config.json``.

    Raises:
        ConfigError: no model of transformers computes what this one does; says why, and what to do.
    """
    check_common(smoe, "transformers")
    _check_conventions(smoe)
    sides = _sides(smoe.model)
    if smoe.moe.is_dense:
        kind: dict[str, Any] = {"model_type": M2M_100, "architectures": ["M2M100ForConditionalGeneration"]}
    else:
        kind = {"model_type": NLLB_MOE, "architectures": ["NllbMoeForConditionalGeneration"]} | _experts(smoe)
    return kind | {"vocab_size": vocab_size} | sides | _ALWAYS


def _check_conventions(smoe: SmoeConfig) -> None:
    model = smoe.model
    if model.position_offset != POSITION_OFFSET:
        raise ConfigError(
            f"--format transformers: smoe.model.position_offset is {model.position_offset}, and {M2M_100} counts "
            f"positions from {POSITION_OFFSET}; train with that offset, export a dense model with --format "
            f"ctranslate2, or {_INSTEAD}"
        )
    if model.norm_epsilon != NORM_EPSILON:
        raise ConfigError(
            f"--format transformers: smoe.model.norm_epsilon is {model.norm_epsilon}, and {M2M_100} has "
            f"{NORM_EPSILON}, which none of its settings changes; {_INSTEAD}"
        )
    framing = LEGACY_FRAMING if is_legacy(smoe.data) else FRAMING
    for key, value in framing.items():
        if (found := getattr(smoe.data, key)) != value:
            raise ConfigError(
                f"--format transformers: smoe.data.{key} is {found!r}, and tokenizers there frame sentences as with "
                f"{value}; train with that, export a dense model with --format ctranslate2, or {_INSTEAD}"
            )


def is_legacy(data: DataConfig) -> bool:
    """Whether sources have the token of their language where ``legacy_behaviour`` puts it."""
    return data.source_language_token == LEGACY_FRAMING["source_language_token"]


def _sides(model: ModelConfig) -> dict[str, Any]:
    """The sizes and the like."""
    sides = {
        f"{side}_{key}": value
        for side in ("encoder", "decoder")
        for key, value in (
            ("layers", getattr(model, f"{side}_layers")),
            ("ffn_dim", model.d_ffn),
            ("attention_heads", model.num_heads),
            ("layerdrop", 0.0),
        )
    }
    return sides | {
        "d_model": model.d_model,
        "activation_function": model.activation,
        "dropout": model.dropout,
        "attention_dropout": model.attention_dropout,
        "max_position_embeddings": model.max_positions,
        "scale_embedding": model.scale_embedding,
    }


def _experts(smoe: SmoeConfig) -> dict[str, Any]:
    blocks = smoe.moe.blocks(smoe.model)
    first = next(iter(blocks.values()))
    for name, block in blocks.items():
        if block != first:
            raise ConfigError(
                f"--format transformers: {name} has other settings than {next(iter(blocks))}, and all blocks of "
                f"{NLLB_MOE} are alike; {_INSTEAD}"
            )
    _check_block(first)
    steps = {}
    for side in ("encoder", "decoder"):
        numbers = [int(name.split(".")[2]) + 1 for name in blocks if name.startswith(side)]
        steps[side] = step = numbers[0] if numbers else 0
        if step and numbers != list(range(step, getattr(smoe.model, f"{side}_layers") + 1, step)):
            raise ConfigError(
                f"--format transformers: layers {numbers} of the {side} have experts, and in {NLLB_MOE} every n-th "
                f"layer has; {_INSTEAD}"
            )
    return {
        "num_experts": first.strata[0],
        **{f"{side}_sparse_step": step for side, step in steps.items()},
        "second_expert_policy": "all",
        "normalize_router_prob_before_dropping": first.combine_weights == "before_drop",
        "batch_prioritized_routing": first.capacity_order == "probability",
        "moe_token_dropout": first.expert_output_masking,
        "moe_eval_capacity_token_fraction": 1.0,
        "router_bias": False,
        "router_dtype": "float32",
        "router_aux_loss_coef": smoe.moe.load_balancing_weight,
        "router_z_loss_coef": smoe.moe.router_z_weight,
    }


def _check_block(block: BlockSettings) -> None:
    problems = [
        f"smoe.moe.{key} is {getattr(block, key)!r}"
        for key in _SAME_AS_DEFAULT
        if getattr(block, key) != BlockSettings.model_fields[key].default
    ]
    if block.router.kind != "top_k" or block.top_k != 2:
        problems.insert(0, f"smoe.moe.router is {block.router.kind} with top_k {block.top_k}")
    if block.experts.kind != "ffn":
        problems.append(f"smoe.moe.experts is {block.experts.kind}")
    if block.combine_weights not in ("after_drop", "before_drop"):
        problems.append(f"smoe.moe.combine_weights is {block.combine_weights}")
    if problems:
        raise ConfigError(
            f"--format transformers: {problems[0]}, and {NLLB_MOE} takes the two best experts of a softmax gate, their "
            f"weights scaled to 1; {_INSTEAD}"
        )


def generation_config(smoe: SmoeConfig, never: list[int]) -> dict[str, Any]:
    """Content of ``generation_config.json``: the beam search of the run, as far as transformers has it.

    Args:
        smoe: the run.
        never: ids that are not generated.
    """
    decode = smoe.decode
    return {
        **TOKENS,
        "num_beams": decode.beam_size,
        "early_stopping": True,
        "length_penalty": decode.length_penalty,
        "min_new_tokens": decode.min_length + 1,
        "max_new_tokens": smoe.model.max_positions - 1,
        "no_repeat_ngram_size": decode.no_repeat_ngram,
        "bad_words_ids": [[index] for index in never],
    }
