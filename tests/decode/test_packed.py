"""Packed weights: products, whole models of every kind, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smoe_ds.config.language_capacity import LanguageCapacity
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.decode import load
from smoe_ds.decode.load import load_translator, open_trained
from smoe_ds.decode.packed_linear import PACKED, Float32Linear, Int8Linear
from smoe_ds.decode.packed_model import pack_model
from smoe_ds.decode.translator import Translator
from smoe_ds.errors import ConfigError
from smoe_ds.model.transformer import Transformer
from tests.helpers.layers import add_noise
from tests.helpers.prepared import sentence
from tests.helpers.random_run import random_run
from tests.helpers.random_translation_model import padded, random_sources

V = 40
SIZES: dict[str, Any] = {
    "d_model": 24,
    "d_ffn": 40,
    "num_heads": 4,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dense": ({}, {"strata": []}),
    "dense_swiglu": ({"activation": "swiglu"}, {"strata": []}),
    "strata": ({"activation": "gelu"}, {"strata": [2, 2]}),
    "shared": ({}, {"strata": [4], "shared_expert": "cmr"}),
    "heads": ({}, {"strata": [2, 2], "heads": 2}),
    "adapters": ({}, {"strata": [2, 2], "experts": {"kind": "adapters", "rank": 3}}),
    "mpo": ({}, {"strata": [2, 2], "experts": {"kind": "mpo"}}),
    "languages": ({"language_capacity": LanguageCapacity(languages=3, gate_width=6)}, {"strata": []}),
}
UNPACKED = ("gates", "cmr_gate", "languages", ".down", ".up", "embedding.table")
"""Gates, the languages' own matrices, adapters, the rows of the embedding."""


def model_of(kind: str) -> Transformer:
    sizes, moe = KINDS[kind]
    model = Transformer(ModelConfig(**SIZES, **sizes), MoeConfig(**moe), V, seed=3).eval()
    add_noise(model, 0.2)
    return model


def packed(model: Transformer, numbers: str) -> Transformer:
    other = copy.deepcopy(model)
    pack_model(other, numbers)
    return other


def forward(model: Transformer) -> Tensor:
    src = padded(random_sources(1, 6, 9, 6, V))
    tgt = padded(random_sources(2, 6, 9, 6, V))
    with torch.inference_mode():
        logits: Tensor = model(src, tgt)[0][tgt > 0]
    return logits


@pytest.mark.parametrize("shape", [(7, 24), (1, 24), (2, 3, 24), (0, 24), (200, 24)], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_products_are_those_of_the_weights(shape: tuple[int, ...], with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(4)
    x, weight = torch.randn(*shape, generator=generator), torch.randn(10, 24, generator=generator)
    bias = torch.randn(10, generator=generator) if with_bias else None
    expected = F.linear(x, weight, bias)
    with torch.inference_mode():
        torch.testing.assert_close(Float32Linear(weight, bias)(x), expected, rtol=1e-5, atol=1e-5)
        found = Int8Linear(weight, bias)(x)
        for layer in (Float32Linear(weight, bias), Int8Linear(weight, bias)):
            assert torch.equal(layer(x, relu=True), layer(x).relu())
    half_level = weight.abs().amax(1) / 127 / 2
    step = x.abs().amax(-1, keepdim=True) * 2 / 127
    size = x.abs().sum(-1, keepdim=True)
    bound = size * half_level + step * (weight.abs().sum(1) + 24 * half_level)
    assert found.shape == expected.shape
    assert ((found - expected).abs() <= bound + 1e-5).all()


def test_a_row_of_large_numbers_does_not_coarsen_the_others() -> None:
    generator = torch.Generator().manual_seed(5)
    x, weight = torch.randn(6, 24, generator=generator), torch.randn(10, 24, generator=generator)
    x[0] *= 1e4
    x[1] = 0
    with torch.inference_mode():
        found = Int8Linear(weight, None)(x)
    expected = x @ weight.t()
    assert (found - expected)[2:].norm() < 0.04 * expected[2:].norm()
    assert (found[1] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_model_computes_the_same(kind: str) -> None:
    model = model_of(kind)
    torch.testing.assert_close(forward(packed(model, "float32")), forward(model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_int8_is_near(kind: str) -> None:
    model = model_of(kind)
    expected, found = forward(model), forward(packed(model, "int8"))
    error = (found - expected).norm(dim=1) / expected.norm(dim=1)
    assert 1e-3 < error.median() < 0.05  # where a token finds another expert, it may be larger
    assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.8


@pytest.mark.parametrize("numbers", PACKED)
@pytest.mark.parametrize("kind", KINDS)
def test_everything_large_is_packed(kind: str, numbers: str) -> None:
    left = [
        name
        for name, parameter in packed(model_of(kind), numbers).named_parameters()
        if parameter.dim() > 1 and not any(one in name for one in UNPACKED)
    ]
    assert left == []


@pytest.mark.parametrize("kind", ["dense", "strata", "mpo"])
@pytest.mark.parametrize("numbers", PACKED)
def test_steps_are_forced_decoding(kind: str, numbers: str) -> None:
    model = packed(model_of(kind), numbers)
    generator = torch.Generator().manual_seed(1)
    src, tgt = (torch.randint(6, V, (3, length), generator=generator) for length in (8, 7))
    with torch.inference_mode():
        forced, _ = model(src, tgt)
        cache = model.start_decoding(model.encode(src))
        steps = torch.stack([model.decode_step(token, cache) for token in tgt.unbind(1)], dim=1)
    error = (steps - forced).norm(dim=2) / forced.norm(dim=2)
    assert error.median() < (1e-5 if numbers == "float32" else 0.05)


def test_int8_takes_a_quarter_of_the_memory() -> None:
    layer = Int8Linear(torch.randn(64, 32), None)
    weight = torch.ops.quantized.linear_unpack(layer._packed)[0]
    assert (weight.dtype, weight.shape) == (torch.qint8, (64, 32))
    table = packed(model_of("dense"), "int8").embedding.table  # type: ignore[attr-defined]
    assert sum(buffer.nbytes for buffer in table.buffers()) == V * (24 + 4)


LINES = [sentence(number) for number in range(0, 120, 15)]


def test_int8_translates_nearly_as_float32(run_dir: Path, translator: Translator) -> None:
    scores = {}
    expected = translator.translate(LINES, "nso")
    for dtype in ("float32", "int8"):
        other = load_translator(run_dir, dtype=dtype, device="cpu", packed=True)
        answers = other.translate(LINES, "nso")
        same = sum(one.tokens == another.tokens for one, another in zip(answers, expected, strict=True))
        assert same == len(LINES) if dtype == "float32" else same > len(LINES) // 4
        scores[dtype] = other.score(LINES, [one.tokens for one in expected], "nso")
    assert scores["float32"] == pytest.approx([one.score for one in expected], rel=1e-4)
    assert scores["int8"] == pytest.approx([one.score for one in expected], rel=0.15)
    assert scores["int8"] != pytest.approx(scores["float32"], rel=1e-6)


def test_a_run_with_another_backend_is_packed_too(tmp_path: Path, corpus: Any) -> None:
    run = random_run(tmp_path, corpus, moe={"expert_backend": "lean"})
    plain, other = (load_translator(run, device="cpu", packed=choice) for choice in (False, True))
    answers = [[one.tokens for one in each.translate(LINES[:3], "nso")] for each in (plain, other)]
    assert answers[0] == answers[1]


def test_int8_is_refused_on_a_gpu(run_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"dtype int8 works on the processor only, not on cuda: add --device cpu"):
        open_trained(run_dir, dtype="int8", device="cuda")


def test_without_the_products_float32_is_not_packed_and_int8_is_refused(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "packed_problem", lambda numbers: f"no {numbers} here")
    with pytest.raises(ConfigError, match=r"dtype int8 does not work .*: no int8 here; use float32"):
        open_trained(run_dir, dtype="int8", device="cpu")
    model = load_translator(run_dir, device="cpu", packed=True).model
    assert model.embedding.weight.shape[1] == model.config.d_model
