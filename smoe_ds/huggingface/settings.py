"""From a ``config.json`` of transformers to the settings of a run, and what has no counterpart here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from smoe_ds.config.model import MOST_LAYERS, MOST_POSITIONS
from smoe_ds.errors import CheckpointError
from smoe_ds.huggingface.folder import CONFIG, NLLB_MOE, TOKENIZER_CONFIG, read_json

POSITION_OFFSET = 2
"""Number of their first position; that of padding is one less."""

FRAMING: Mapping[str, bool | str] = {"source_language_token": "source", "target_language_token": "after_end"}
"""``smoe.data``: how they frame sentences."""

LEGACY_FRAMING: Mapping[str, bool | str] = {**FRAMING, "source_language_token": "source_at_end"}
"""As their tokenizers do it with ``legacy_behaviour``: NLLB's first ones, and the training of NLLB itself."""

_SMALL_100: Mapping[str, bool | str] = {"source_language_token": True, "target_language_token": "end"}
"""SMaLL-100 is a ``m2m_100`` whose sources name the target language; its tokenizer's class is its own."""

TOKENS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
"""Their ids of special tokens; positions count from that of padding, and decoders start with the end of sentence."""

NORM_EPSILON = 1e-5
"""Of their LayerNorms; no key of theirs changes it."""

_ACTIVATIONS = ("relu", "gelu")
_SECOND_EXPERT = {"all": "argmax", "sampling": "sample"}
Value = TypeVar("Value", int, float, bool, str)


@dataclass(frozen=True)
class Settings:
    """A run's settings for one of their models.

    Attributes:
        model: keys of ``smoe.model``.
        moe: keys of ``smoe.moe``.
        vocab_size: rows of their embedding.
        notes: what was not taken over, one line each.
    """

    model: dict[str, Any]
    moe: dict[str, Any]
    vocab_size: int
    notes: tuple[str, ...]


def settings_of(config: Mapping[str, Any], folder: Path) -> Settings:
    """The settings of a model.

    Args:
        config: content of its ``config.json``.
        folder: for messages.

    Raises:
        CheckpointError: a value is missing or of another type, or the model computes what models here cannot.
    """
    theirs = _Theirs(config, folder / CONFIG)
    _check_same_function(theirs)
    model = {
        "d_model": theirs.get("d_model", int),
        "d_ffn": theirs.same("encoder_ffn_dim", "decoder_ffn_dim"),
        "num_heads": theirs.same("encoder_attention_heads", "decoder_attention_heads"),
        "encoder_layers": theirs.at_most("encoder_layers", MOST_LAYERS),
        "decoder_layers": theirs.at_most("decoder_layers", MOST_LAYERS),
        "activation": theirs.get("activation_function", str, "relu"),
        "dropout": theirs.get("dropout", float, 0.1),
        "attention_dropout": theirs.get("attention_dropout", float, 0.1),
        "max_positions": theirs.at_most("max_position_embeddings", MOST_POSITIONS, 1024),
        "position_offset": POSITION_OFFSET,
        "scale_embedding": theirs.get("scale_embedding", bool, True),
        "norm_epsilon": NORM_EPSILON,
    }
    sparse = config["model_type"] == NLLB_MOE
    moe = _moe(theirs, model) if sparse else {"strata": []}
    return Settings(model, moe, theirs.get("vocab_size", int), tuple(_notes(theirs, sparse)))


def framing_of(folder: Path) -> Mapping[str, bool | str]:
    """Keys of ``smoe.data``: how the tokenizer of a folder frames sentences.

    Raises:
        CheckpointError: its ``tokenizer_config.json`` is damaged.
    """
    path = folder / TOKENIZER_CONFIG
    tokenizer = read_json(path) if path.is_file() else {}
    if tokenizer.get("tokenizer_class") == "SMALL100Tokenizer":
        return _SMALL_100
    return LEGACY_FRAMING if tokenizer.get("legacy_behaviour") else FRAMING


class _Theirs:
    """Typed values of a ``config.json``; null is as if the key was left out."""

    def __init__(self, config: Mapping[str, Any], path: Path) -> None:
        self.config, self.path = config, path

    def get(self, key: str, kind: type[Value], default: Value | None = None) -> Value:
        value = self.config.get(key)
        if value is None:
            value = default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise CheckpointError(f"{self.path}: {key}: expected {_WORDS[kind]}, found {value!r}; download it again")
        return value

    def at_most(self, key: str, most: int, default: int | None = None) -> int:
        """A number that has a limit here."""
        value = self.get(key, int, default)
        if value > most:
            raise CheckpointError(f"{self.path}: {key} is {value:,}: models here have at most {most:,}; correct it")
        return value

    def same(self, one: str, other: str) -> int:
        """A number that both sides have here."""
        value = self.get(one, int)
        if value != self.get(other, int):
            raise self.refused(one, f"{other} is {self.config[other]}, and here both sides are alike")
        return value

    def refused(self, key: str, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: {key} is {self.config.get(key)!r}: {reason}; the model cannot be imported"
        )


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _check_same_function(theirs: _Theirs) -> None:
    if not theirs.get("tie_word_embeddings", bool, True):
        raise theirs.refused("tie_word_embeddings", "models here have one matrix for both embeddings and the output")
    if theirs.get("activation_function", str, "relu") not in _ACTIVATIONS:
        raise theirs.refused("activation_function", f"here it is {' or '.join(_ACTIVATIONS)}")
    for key, usual in TOKENS.items():
        if theirs.get(key, int, usual) != usual:
            raise theirs.refused(key, f"only {usual} is supported, as M2M100 and NLLB have it")
    if theirs.config.get("quantization_config") is not None:
        raise CheckpointError(
            f"{theirs.path}: quantization_config: the weights are quantized; import the model they were made of"
        )


def _moe(theirs: _Theirs, model: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of ``smoe.moe`` for NLLB-MoE: one stratum in every n-th layer."""
    experts, policy = theirs.get("num_experts", int), theirs.get("second_expert_policy", str, "all")
    if theirs.get("router_bias", bool, False):
        raise theirs.refused("router_bias", "gates here have no bias")
    if policy not in _SECOND_EXPERT:
        known = " and ".join(_SECOND_EXPERT)
        raise theirs.refused("second_expert_policy", f"{known} have a counterpart here (smoe.moe.second_expert)")
    if experts < 2:
        raise theirs.refused("num_experts", "a token takes the two best experts, so there must be two")
    before = theirs.get("normalize_router_prob_before_dropping", bool, False)
    prioritized = theirs.get("batch_prioritized_routing", bool, False)
    return _where(theirs, model, experts) | {
        "top_k": 2,
        "second_expert": _SECOND_EXPERT[policy],
        "combine_weights": "before_drop" if before else "after_drop",
        "capacity_order": "probability" if prioritized else "position",
        "expert_output_masking": theirs.get("moe_token_dropout", float, 0.2),
        "load_balancing_weight": theirs.get("router_aux_loss_coef", float, 0.001),
        "router_z_weight": theirs.get("router_z_loss_coef", float, 0.001),
    }


def _where(theirs: _Theirs, model: Mapping[str, Any], experts: int) -> dict[str, Any]:
    """Which layers have experts: ``every`` where one number says it, else ``layers``."""
    steps = {side: theirs.get(f"{side}_sparse_step", int, 4) for side in ("encoder", "decoder")}
    step = steps["encoder"]
    if step == steps["decoder"] and 0 < step <= max(model["encoder_layers"], model["decoder_layers"]):
        return {"strata": [experts], "every": step}
    sparse = {
        f"{side}.{number}": {"strata": [experts]}
        for side, step in steps.items()
        for number in range(1, model[f"{side}_layers"] + 1)
        if step > 0 and number % step == 0
    }
    return {"strata": [], "layers": sparse}


def _notes(theirs: _Theirs, sparse: bool) -> list[str]:
    notes = [
        f"{key} {theirs.config[key]} is not taken over: models here do not have it; it matters in training alone"
        for key in ("encoder_layerdrop", "decoder_layerdrop", "activation_dropout")
        if theirs.get(key, float, 0.0)
    ]
    if theirs.get("layer_norm_eps", float, NORM_EPSILON) != NORM_EPSILON:
        notes.append(
            f"layer_norm_eps {theirs.config['layer_norm_eps']} is not taken over: transformers computes these models "
            f"with {NORM_EPSILON} whatever it says; if yours was trained with it, add --set smoe.model.norm_epsilon="
            f"{theirs.config['layer_norm_eps']}"
        )
    if not sparse:
        return notes
    if (capacity := theirs.config.get("expert_capacity")) is not None:
        notes.append(f"expert_capacity {capacity} is not taken over: training here uses smoe.moe.capacity_factor, 2.0")
    if (share := theirs.get("moe_eval_capacity_token_fraction", float, 1.0)) < 1:
        notes.append(f"moe_eval_capacity_token_fraction {share} is not taken over: evaluation here never drops a token")
    if theirs.config.get("second_expert_policy") == "sampling":
        notes.append("second_expert_policy sampling is taken over for training; evaluation here takes the second best")
    if (dtype := theirs.get("router_dtype", str, "float32")) != "float32":
        notes.append(f"router_dtype {dtype} is not taken over: gates here compute in float32")
    return notes
