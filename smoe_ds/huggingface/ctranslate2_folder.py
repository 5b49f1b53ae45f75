"""Writes a dense model of ours for CTranslate2, by its own converter: it gets the weights, and writes its files.

CTranslate2 is told tokens, not text. ``tokenizer.model`` beside the model cuts text into pieces. A source is framed as
in training, and the target's language goes into ``target_prefix`` if the decoder was told it in training.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.decode.load import TrainedModel
from smoe_ds.errors import ConfigError
from smoe_ds.huggingface.export_folder import checked_weights
from smoe_ds.huggingface.exported_config import check_common
from smoe_ds.model.embedding import sinusoidal_positions
from smoe_ds.run.exported import TOKENIZER
from smoe_ds.weights.weights_folder import new_folder

if TYPE_CHECKING:
    from torch import Tensor

_START = {True: None, False: "<s>", "after_end": "</s>", "end": "</s>"}
"""The token that the decoder starts with, by ``smoe.data.target_language_token``; None: the prefix's first."""


def export_to_ctranslate2(trained: TrainedModel, checkpoint: Path, folder: Path, dtype: str) -> int:
    """Writes a folder that ``ctranslate2.Translator`` reads, all of it or nothing.

    Args:
        trained: the model on disk.
        checkpoint: the folder with the weights that are meant.
        folder: must not exist, or be empty.
        dtype: of the weights in the file.

    Returns:
        Parameters.

    Raises:
        ConfigError: CTranslate2 is not installed, or the model is not one that it computes; says why.
        CheckpointError: the weights are damaged, or the folder cannot be written.
    """
    smoe = trained.config.smoe
    check_ctranslate2(smoe)
    weights = checked_weights(trained, checkpoint)
    converter = _converter(smoe, trained.tokenizer, weights)
    with new_folder(folder) as place:
        converter.convert(str(place), quantization=dtype, force=True)
        shutil.copyfile(trained.tokenizer.model_file, place / TOKENIZER)
    return sum(weight.numel() for weight in weights.values())


def check_ctranslate2(smoe: SmoeConfig) -> None:
    """Refuses a model before its weights are read; raises ConfigError."""
    check_common(smoe, "ctranslate2")
    if not smoe.moe.is_dense:
        raise ConfigError(
            "--format ctranslate2: the model has experts, which CTranslate2 does not compute in translation models; "
            "export it with --format transformers if it is a vanilla model, or in our own format (--format smoe_ds)"
        )
    try:
        import ctranslate2  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--format ctranslate2: CTranslate2 cannot be imported ({error}); install it with: "
            "pip install 'smoe_ds[ctranslate2]'"
        ) from error


def _converter(smoe: SmoeConfig, tokenizer: Tokenizer, weights: Mapping[str, Tensor]) -> Any:
    """CTranslate2's converter for the model."""
    from ctranslate2.converters.converter import Converter

    class Ours(Converter):
        def _load(self) -> Any:
            return _specification(smoe, tokenizer, weights)

    return Ours()


def _specification(smoe: SmoeConfig, tokenizer: Tokenizer, weights: Mapping[str, Tensor]) -> Any:
    from ctranslate2.specs import common_spec, transformer_spec

    model = smoe.model
    activation = {"relu": common_spec.Activation.RELU, "gelu": common_spec.Activation.GELU}[model.activation]
    layers = (model.encoder_layers, model.decoder_layers)
    spec = transformer_spec.TransformerSpec.from_config(layers, model.num_heads, activation=activation)
    positions = sinusoidal_positions(model.max_positions, model.d_model, model.position_offset).numpy()
    embedding = weights["embedding.weight"].numpy()
    for side, embeddings in (("encoder", spec.encoder.embeddings[0]), ("decoder", spec.decoder.embeddings)):
        stack = getattr(spec, side)
        stack.scale_embeddings = math.sqrt(model.d_model) if model.scale_embedding else 1.0
        stack.position_encodings.encodings = positions
        embeddings.weight = embedding
        _norm(stack.layer_norm, weights, f"{side}.norm")
        for number, layer in enumerate(stack.layer):
            _layer(layer, weights, f"{side}.layers.{number}")
    spec.decoder.projection.weight = embedding
    tokens = [spelling for spelling, _ in tokenizer.vocabulary()]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = (
        tokens[index] for index in (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id)
    )
    spec.config.layer_norm_epsilon = model.norm_epsilon
    spec.config.decoder_start_token = _START[smoe.data.target_language_token]
    return spec


def _layer(layer: Any, weights: Mapping[str, Tensor], name: str) -> None:
    import torch

    own = layer.self_attention
    _norm(own.layer_norm, weights, f"{name}.self_norm")
    for kind in ("weight", "bias"):
        parts = [weights[f"{name}.self_attention.{part}.{kind}"] for part in ("query", "key_value")]
        setattr(own.linear[0], kind, torch.cat(parts).numpy())
    _linear(own.linear[1], weights, f"{name}.self_attention.out")
    if f"{name}.cross_norm.weight" in weights:
        _norm(layer.attention.layer_norm, weights, f"{name}.cross_norm")
        for linear, part in zip(layer.attention.linear, ("query", "key_value", "out"), strict=True):
            _linear(linear, weights, f"{name}.cross_attention.{part}")
    _norm(layer.ffn.layer_norm, weights, f"{name}.ffn.norm")
    for number, linear in ((1, layer.ffn.linear_0), (2, layer.ffn.linear_1)):
        linear.weight = weights[f"{name}.ffn.ffn.w{number}"].numpy()
        linear.bias = weights[f"{name}.ffn.ffn.b{number}"].numpy()


def _norm(spec: Any, weights: Mapping[str, Tensor], name: str) -> None:
    spec.gamma, spec.beta = weights[f"{name}.weight"].numpy(), weights[f"{name}.bias"].numpy()


def _linear(spec: Any, weights: Mapping[str, Tensor], name: str) -> None:
    spec.weight, spec.bias = weights[f"{name}.weight"].numpy(), weights[f"{name}.bias"].numpy()
