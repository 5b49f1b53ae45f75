"""Language-specific projections against a loop over tokens, at both ends of the gate, and in decoding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from smoe_ds.config.language_capacity import FIRST_LANGUAGE_ID, LanguageCapacity
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.model.language_capacity import LanguageGate, Languages
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.losses import auxiliary_losses, language_budget_loss
from smoe_ds.moe.stats import ModelStats
from tests.helpers.forced_decoding import assert_steps_are_forced_decoding
from tests.helpers.layers import add_noise

D, LANGUAGES, VOCAB = 8, 3, 40
SIZES: dict[str, Any] = {"d_model": D, "d_ffn": 12, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2}
MODEL = ModelConfig(
    **SIZES, dropout=0.0, attention_dropout=0.0, language_capacity=LanguageCapacity(languages=LANGUAGES, gate_width=6)
)
SUBLAYERS = 2 * 2 + 2 * 3


def model_of(strata: list[int] | None = None) -> Transformer:
    model = Transformer(MODEL, MoeConfig(strata=strata or [], capacity_factor=None), VOCAB, seed=2).double()
    add_noise(model, 0.3)
    return model


def sentences() -> tuple[Tensor, Tensor]:
    """Source and decoder input that start with the token of a language; some positions are padding."""
    generator = torch.Generator().manual_seed(4)
    src = torch.randint(FIRST_LANGUAGE_ID + LANGUAGES, VOCAB, (3, 6), generator=generator)
    tgt = torch.randint(FIRST_LANGUAGE_ID + LANGUAGES, VOCAB, (3, 5), generator=generator)
    src[:, 0] = tgt[:, 0] = torch.tensor([4, 5, 6])
    src[1, 4:], tgt[2, 3:] = 0, 0
    return src, tgt


def set_gates(model: Transformer, score: float) -> None:
    """Every gate's score, whatever it reads."""
    for module in model.modules():
        if isinstance(module, LanguageGate):
            torch.nn.init.zeros_(module.gates[1].weight)
            torch.nn.init.constant_(module.gates[1].bias, score)


@pytest.mark.parametrize("training", [True, False])
def test_a_gate_equals_the_loop(training: bool) -> None:
    gate = LanguageGate(D, 6, own=True).double().train(training)
    gate.initialize("gate")
    add_noise(gate, 0.5)
    generator = torch.Generator().manual_seed(0)
    x, h, weight = (torch.randn(2, 4 + 4 * square, D, generator=generator).double() for square in (0, 0, 1))
    real = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0]]).double().unsqueeze(2)
    languages = Languages(weight, real, noise=1.5)
    torch.manual_seed(3)
    y = gate(x, h, languages)
    torch.manual_seed(3)
    noise, w, total = torch.randn(2, 4, 1, dtype=x.dtype), gate, 0.0
    assert w.common is not None
    for b in range(2):
        for t in range(4):
            normal = (x[b, t] - x[b, t].mean()) / torch.sqrt(x[b, t].var(correction=0) + 1e-5)
            inner = (w.gates[0].weight @ normal + w.gates[0].bias).clamp(min=0)
            score = w.gates[1].weight[0] @ inner + w.gates[1].bias[0]
            g = 1 / (1 + torch.exp(-score - 1.5 * noise[b, t, 0])) if training else (score >= 0).double()
            expected = g * (weight[b] @ h[b, t]) + (1 - g) * (w.common.weight @ h[b, t])
            torch.testing.assert_close(y[b, t], expected, rtol=1e-12, atol=1e-12)
            total += g.item() * real[b, t].item()
    assert languages.close().tolist() == pytest.approx([total, 6.0])


@pytest.mark.parametrize("strata", [[], [3, 3]], ids=str)
def test_closed_gates_know_no_language(strata: list[int]) -> None:
    model = model_of(strata).eval()
    set_gates(model, -1.0)
    src, tgt = sentences()
    logits, stats = model(src, tgt)
    for stack in (model.encoder, model.decoder):
        torch.nn.init.normal_(stack.languages.weight)
    assert torch.equal(model(src, tgt)[0], logits)
    assert stats.language_gates is not None and stats.language_gates[0] == 0
    set_gates(model, 1.0)
    assert not torch.equal(model(src, tgt)[0], logits)


def test_open_gates_teach_the_languages_alone() -> None:
    model = model_of([4])
    set_gates(model, 1e4)
    src, tgt = sentences()
    logits, stats = model(src[:2], tgt[:2])
    logits.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for side in ("encoder", "decoder"):
        found = gradients[f"{side}.languages.weight"]
        assert found is not None and all(found[n].abs().max() > 0 for n in (0, 1)) and not found[2].any()
    shared = [name for name in gradients if "attention.out" in name or "common" in name]
    assert len(shared) == 2 * (2 + 4) + 4
    assert not any(gradients[name].any() for name in shared if gradients[name] is not None)
    assert stats.language_gates is not None
    real = int((src[:2] != 0).sum()) * 4 + int((tgt[:2] != 0).sum()) * 6
    assert stats.language_gates.tolist() == [real, real]


def test_budget_loss() -> None:
    stats = ModelStats()
    for mean, expected in ((0.3, 0.0), (0.5, 0.2), (0.1, 0.2)):
        stats.language_gates = torch.tensor([40 * mean, 40.0], dtype=torch.float64, requires_grad=True)
        loss = language_budget_loss(stats, 0.3)
        assert loss.item() == pytest.approx(expected)
        (gradient,) = torch.autograd.grad(loss, stats.language_gates)
        assert gradient[0].item() == pytest.approx((mean > 0.3 + 1e-9) / 40 - (mean < 0.3 - 1e-9) / 40, abs=1e-12) or (
            expected == 0.0
        )
    parts = [torch.tensor([3.0, 10.0]), torch.tensor([9.0, 10.0])]
    values = []
    for part in parts:
        stats.language_gates = part
        values.append(language_budget_loss(stats, 0.3, lambda _: torch.stack(parts).sum(0).double(), 2))
    assert sum(values).item() / 2 == pytest.approx(0.3)  # |12 / 20 - 0.3|
    terms = auxiliary_losses(MoeConfig(strata=[]), MODEL)
    assert [(term.name, term.weight) for term in terms] == [("language_budget_loss", 1.0)]


def test_noise_grows_with_the_training() -> None:
    model, (src, tgt) = model_of(), sentences()
    found = []
    for progress in (0.0, 0.0, 1.0):
        model.progress = progress
        torch.manual_seed(len(found))
        found.append(model(src, tgt)[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("strata", [[], [3, 3]], ids=str)
def test_step_by_step_decoding_is_forced_decoding(strata: list[int]) -> None:
    model, (src, tgt) = model_of(strata).eval(), sentences()
    tgt[2, 3:] = 9
    tgt, forced = assert_steps_are_forced_decoding(model, src, tgt)
    with torch.no_grad():
        alone, _ = model(src[1:2, :4], tgt[2:3])
        torch.testing.assert_close(alone[0], forced[2], rtol=1e-10, atol=1e-10)


def test_without_languages_nothing_is_there() -> None:
    plain = Transformer(ModelConfig(**SIZES), MoeConfig(strata=[2, 2]), VOCAB)
    assert not [name for name, _ in plain.named_parameters() if "language" in name]
    parts = [name for name, _ in plain.decoder.layers[0].named_children()]  # the order that optimizers keep
    assert parts == ["self_norm", "self_attention", "cross_norm", "cross_attention", "ffn"]
    src, tgt = sentences()
    assert plain(src, tgt)[1].language_gates is None


def test_language_tokens_are_needed() -> None:
    with pytest.raises(ValueError, match=r"data\.target_language_token: is false"):
        SmoeConfig.model_validate(
            {
                "model": {"language_capacity": {"languages": 3}},
                "data": {"path": "x", "target_language_token": False},
                "train": {"output_dir": "y"},
            }
        )
