"""A dense network cut in experts: all of them are the network; fewer are the sum of the chosen parts, unit by unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.errors import CheckpointError, ConfigError
from smoe_ds.model.feed_forward import DenseFeedForward
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.weights.moefication import check_moefication, moefy, width_setting
from tests.helpers.random_translation_model import MODEL, padded, random_model, random_sources

VOCAB = 29
BLOCK = "decoder.layers.1.ffn"
EXPERTS = 6


@pytest.fixture(scope="module")
def dense() -> Transformer:
    return random_model(3, [], VOCAB)


def moefied(dense: Transformer, top_k: int, seed: int = 8, **moe: Any) -> Transformer:
    settings = {"strata": [EXPERTS], "top_k": top_k, "combine_weights": "ones", "expert_ffn": 24 // EXPERTS}
    model = Transformer(MODEL, MoeConfig(**settings | moe), VOCAB, seed=seed).double().eval()
    weights = moefy(dict(dense.named_parameters()), model, seed=seed, source=Path("dense"))
    model.load_state_dict({name: weight.detach() for name, weight in weights.items()})
    return model


@pytest.mark.parametrize("every", [1, 2])
def test_all_experts_are_the_dense_model(dense: Transformer, every: int) -> None:
    model = moefied(dense, EXPERTS, every=every)
    src, tgt = (padded(random_sources(seed, 5, 9, 4, VOCAB)) for seed in (1, 2))
    with torch.no_grad():
        expected, found = dense(src, tgt)[0], model(src, tgt)[0]
    torch.testing.assert_close(found[tgt != 0], expected[tgt != 0], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_some_experts_are_the_units_of_the_nearest_clusters(dense: Transformer, top_k: int) -> None:
    block, layer = moefied(dense, top_k).get_submodule(BLOCK), dense.get_submodule(BLOCK)
    assert isinstance(block, StratifiedMoE) and isinstance(layer, DenseFeedForward)
    x_ND = torch.randn(20, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    w1, b1, w2, b2 = (getattr(layer.ffn, name).detach() for name in ("w1", "b1", "w2", "b2"))
    units = clusters_of(block, w1)
    with torch.no_grad():
        y_ND, stats = block(x_ND)
        for x, y in zip(x_ND, y_ND, strict=True):
            h = layer.norm(x)
            likeness = [sum(float(h @ w1[j] / w1[j].norm()) for j in own) / len(own) for own in units]
            chosen = sorted(range(EXPERTS), key=lambda e: -likeness[e])[:top_k]
            expected = x + b2
            for j in (j for e in chosen for j in units[e]):
                expected = expected + w2[:, j] * max(float(w1[j] @ h + b1[j]), 0.0)
            torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    assert stats.strata[0].num_dropped == 0


def clusters_of(block: StratifiedMoE, w1: Tensor) -> list[list[int]]:
    """The hidden units of each expert by their places in the dense network, every one of which is in one expert."""
    found = []
    for e in range(EXPERTS):
        rows = block.experts[str(e)].w1
        found.append([next(j for j in range(len(w1)) if torch.equal(w1[j], row)) for row in rows])
    assert sorted(j for own in found for j in own) == list(range(len(w1)))
    return found


def test_the_seed_decides_the_clusters(dense: Transformer) -> None:
    one, same, other = (moefied(dense, 2, seed).state_dict() for seed in (8, 8, 9))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def smoe(model: dict[str, Any] | None = None, **moe: Any) -> SmoeConfig:
    settings = {"strata": [8], "combine_weights": "ones", "expert_ffn": 3} | moe
    return SmoeConfig(
        model=ModelConfig(**MODEL.model_dump() | (model or {})),
        moe=MoeConfig(**settings),
        data={"path": "corpus"},
        train={"output_dir": "run"},
    )


def test_the_width_follows_from_the_experts() -> None:
    check_moefication(smoe())
    assert width_setting(smoe()) == "smoe.moe.expert_ffn=3"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strata": [4, 4]}, r"smoe\.moe\.strata: is \[4, 4\]; MoEfication makes one stratum"),
        ({"strata": [7]}, r"expert_ffn: 7 experts of 3 units are not the 24 of the dense network"),
        ({"combine_weights": "raw"}, r"combine_weights: is raw; MoEfication needs ones"),
        ({"gate_scores": "cosine"}, r"gate_scores: is cosine; MoEfication needs linear"),
        ({"shared_expert": "add"}, r"shared_expert: is add; MoEfication needs none"),
        ({"model": {"activation": "gelu"}}, r"smoe\.model\.activation: is gelu; MoEfication needs a relu model"),
        ({"layers": {"decoder.2": {"strata": [5]}}}, r"expert_ffn: 5 experts of 3 units"),
        (
            {"router": {"kind": "hash"}, "combine_weights": "after_drop"},
            r"smoe\.moe\.router: is hash; MoEfication needs",
        ),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        check_moefication(smoe(**settings))


def test_another_model_is_refused(dense: Transformer) -> None:
    experts = dict(random_model(1, [2, 2], VOCAB).named_parameters())
    model = Transformer(MODEL, MoeConfig(strata=[8], expert_ffn=3), VOCAB)
    with pytest.raises(
        CheckpointError, match=r"^dense: has no encoder\.layers\.1\.ffn\.norm\.weight; name a dense model"
    ):
        moefy(experts, model, seed=1, source=Path("dense"))
    wide = Transformer(MODEL, MoeConfig(strata=[8], expert_ffn=4), VOCAB)
    with pytest.raises(CheckpointError, match=r"^dense: is not the dense twin .*w1 \[3, 16\] instead of \[4, 16\]"):
        moefy(dict(dense.named_parameters()), wide, seed=1, source=Path("dense"))
