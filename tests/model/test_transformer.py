"""The transformer: padding, causality, cache, initial weights and loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.model.feed_forward import moe_factory
from smoe_ds.model.loss import translation_loss
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.losses import load_balancing_loss
from tests.helpers.layers import add_noise

V = 30
CONFIG = ModelConfig(
    d_model=16, d_ffn=24, num_heads=4, encoder_layers=2, decoder_layers=2, dropout=0.0, attention_dropout=0.0
)
MOE = MoeConfig(strata=[2, 2], second_expert="argmax", capacity_factor=None)
DENSE = MoeConfig(strata=[])


def make_model(moe: MoeConfig = MOE) -> Transformer:
    model = Transformer(CONFIG, moe, V, seed=7).double()
    add_noise(model, 0.2)  # weights large enough that routing and attention are far from uniform
    return model


def tokens(*rows: list[int]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


SRC = tokens([5, 6, 7, 8, 2], [9, 10, 2], [11, 2])
TGT = tokens([1, 12, 13, 14], [1, 15], [1, 16, 17])


@pytest.mark.parametrize("moe", [MOE, DENSE], ids=["smoe", "dense"])
def test_every_second_layer_is_a_block(moe: MoeConfig) -> None:
    _, stats = make_model(moe)(SRC, TGT)
    assert len(stats) == (0 if moe.is_dense else 2)


@pytest.mark.parametrize("moe", [MOE, DENSE], ids=["smoe", "dense"])
def test_padding_changes_nothing(moe: MoeConfig) -> None:
    model = make_model(moe).eval()
    together, _ = model(SRC, TGT)
    for row in range(3):
        src, tgt = SRC[row][SRC[row] != 0], TGT[row][TGT[row] != 0]
        alone, _ = model(src.unsqueeze(0), tgt.unsqueeze(0))
        torch.testing.assert_close(together[row, : len(tgt)], alone[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("moe", [MOE, DENSE], ids=["smoe", "dense"])
def test_known_numbers_of_tokens_change_nothing(moe: MoeConfig) -> None:
    model = make_model(moe)
    outputs = []
    for numbers in ((), (int((SRC != 0).sum()), int((TGT != 0).sum()))):
        torch.manual_seed(0)
        outputs.append(model(SRC, TGT, *numbers)[0])
    assert torch.equal(*outputs)


def test_positions_and_scale_are_settings() -> None:
    plain = Transformer(CONFIG, DENSE, V, seed=7).embedding
    changed = CONFIG.model_copy(update={"position_offset": 2, "scale_embedding": False})
    other = Transformer(changed, DENSE, V, seed=7).embedding
    assert torch.equal(other.weight, plain.weight)
    torch.testing.assert_close(other.positions[:-2], plain.positions[2:])
    torch.testing.assert_close(other(SRC) - other.positions[:5], plain.weight[SRC])
    torch.testing.assert_close(plain(SRC) - plain.positions[:5], 4 * plain.weight[SRC])


@pytest.mark.parametrize("block", [{"norm": "released"}, {"heads": 2}, {"stacked": True}, {}])
def test_epsilon_is_that_of_every_norm(block: dict[str, Any]) -> None:
    config = CONFIG.model_copy(update={"norm_epsilon": 0.25})
    model = Transformer(config, MoeConfig(strata=[2, 2], every=1, **block), V)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {0.25}
    assert len(norms) >= 12
    dense = Transformer(config, DENSE, V)
    assert {module.eps for module in dense.modules() if isinstance(module, torch.nn.LayerNorm)} == {0.25}


def test_a_position_does_not_see_later_ones() -> None:
    model = make_model().eval()
    changed = TGT.clone()
    changed[0, 3] = 20
    before, after = model(SRC, TGT)[0][0], model(SRC, changed)[0][0]
    torch.testing.assert_close(before[:3], after[:3], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(before[3], after[3])


@pytest.mark.parametrize("moe", [MOE, DENSE], ids=["smoe", "dense"])
def test_cached_decoding_equals_the_whole_pass(moe: MoeConfig) -> None:
    model = make_model(moe).eval()
    logits, _ = model(SRC, TGT)
    cache = model.start_decoding(model.encode(SRC))
    steps = torch.stack([model.decode_step(TGT[:, t], cache) for t in range(TGT.shape[1])], dim=1)
    real = TGT != 0
    torch.testing.assert_close(steps[real], logits[real], rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_reordered_cache_continues_the_chosen_hypotheses() -> None:
    model = make_model().eval()
    order = torch.tensor([2, 0, 0])
    cache = model.start_decoding(model.encode(SRC))
    for t in range(2):
        model.decode_step(TGT[:, t], cache)
    cache.reorder(order, order)
    got = model.decode_step(TGT[order, 2], cache)
    logits, _ = model(SRC[order], torch.cat([TGT[order, :2], TGT[order, 2:3]], dim=1))
    torch.testing.assert_close(got, logits[:, 2], rtol=1e-11, atol=1e-11)


def test_all_padding_batch_gives_finite_zero_gradients() -> None:
    model = make_model()
    nothing = torch.zeros(1, 2, dtype=torch.long)
    logits, stats = model(nothing, nothing)
    loss = translation_loss(logits, nothing, 0.1)
    (loss.smoothed + load_balancing_loss(stats)).backward()
    assert loss.smoothed.item() == loss.nll.item() == 0
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert torch.equal(p.grad, torch.zeros_like(p)), name


def test_initial_weights_do_not_depend_on_the_expert_parallel_size() -> None:
    whole = dict(Transformer(CONFIG, MOE, V, seed=7).named_parameters())
    torch.manual_seed(123)  # the global generator has no say
    seen = set()
    for ep_rank in range(2):
        make = moe_factory(CONFIG, 7, ep_rank=ep_rank, ep_size=2)
        part = dict(Transformer(CONFIG, MOE, V, seed=7, make_moe=make).named_parameters())
        for name, p in part.items():
            torch.testing.assert_close(p, whole[name], rtol=0, atol=0)
        seen |= set(part)
    assert seen == set(whole)


def test_experts_and_blocks_start_different_and_another_seed_differs() -> None:
    one, other = (dict(Transformer(CONFIG, MOE, V, seed=s).named_parameters()) for s in (1, 2))
    w1 = [p for name, p in one.items() if name.endswith("w1") and "experts" in name]
    assert len(w1) == 8
    assert len({p.sum().item() for p in w1}) == len(w1)
    same = [n for n, p in one.items() if torch.equal(p, other[n])]
    assert all("norm" in n or n.endswith(("bias", "b1", "b2", "w2")) for n in same)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_equals_a_loop_over_tokens(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, V, dtype=torch.float64), torch.tensor([[4, 5, 0], [6, 0, 0]])
    smoothed = nll = 0.0
    for b, t in [(0, 0), (0, 1), (1, 0)]:
        p = torch.softmax(logits[b, t], 0)
        q = torch.full((V,), smoothing / V, dtype=torch.float64)
        q[target[b, t]] += 1 - smoothing
        smoothed -= (q * p.log()).sum().item()
        nll -= p[target[b, t]].log().item()
    got = translation_loss(logits, target, smoothing)
    assert got.smoothed.item() == pytest.approx(smoothed, rel=1e-12)
    assert got.nll.item() == pytest.approx(nll, rel=1e-12)
