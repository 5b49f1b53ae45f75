"""A mixture of experts right after upcycling against the dense model it was made of, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smoe_ds.config.moe import MoeConfig
from smoe_ds.errors import CheckpointError
from smoe_ds.model.feed_forward import DenseFeedForward
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.weights.upcycle import upcycle
from tests.helpers.random_translation_model import MODEL, padded, random_model, random_sources

VOCAB = 29
BLOCK = "encoder.layers.1.ffn"


@pytest.fixture(scope="module")
def dense() -> Transformer:
    return random_model(3, [], VOCAB)


def upcycled(dense: Transformer, noise: float = 0.0, seed: int = 8, **moe: Any) -> Transformer:
    model = Transformer(MODEL, MoeConfig(**moe), VOCAB, seed=seed).eval()
    source = {name: parameter.detach() for name, parameter in dense.named_parameters()}
    weights = upcycle(source, model, noise=noise, seed=seed, source=Path("dense"))
    model = model.double()
    model.load_state_dict(weights)
    return model


def dense_pass(dense: Transformer, x: Tensor, times: int = 1) -> Tensor:
    """x through the dense layer, some times over."""
    layer = dense.get_submodule(BLOCK)
    assert isinstance(layer, DenseFeedForward)
    for _ in range(times):
        x = x + layer.ffn(layer.norm(x))
    return x


def through_block(model: Transformer, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output, and the number of passes of each token."""
    block = model.get_submodule(BLOCK)
    assert isinstance(block, StratifiedMoE)
    with torch.no_grad():
        y, stats = block(x)
    return y, stats.requested_capacity


@pytest.mark.parametrize(
    "moe",
    [
        {"strata": [6], "combine_weights": "before_drop"},
        {"strata": [6], "combine_weights": "after_drop"},
        {"strata": [5], "top_k": 3},
        {"strata": [4], "shared_expert": "cmr"},
        {"strata": [4], "bias_balancing": 0.01},
        {"strata": [4], "every": 1},
        {"strata": [4], "experts": {"kind": "adapters", "rank": 3, "scale": 2.0}},
        {"strata": [4], "experts": {"kind": "mpo"}, "shared_expert": "cmr"},
    ],
)
def test_a_single_stratum_is_the_dense_model(dense: Transformer, moe: dict[str, Any]) -> None:
    model = upcycled(dense, **moe)
    src, tgt = (padded(random_sources(seed, 5, 9, 4, VOCAB)) for seed in (1, 2))
    with torch.no_grad():
        expected, found = dense(src, tgt)[0], model(src, tgt)[0]
    real = tgt != 0
    torch.testing.assert_close(found[real], expected[real], rtol=1e-12, atol=1e-12)


def test_before_drop_is_the_dense_model_in_training_too(dense: Transformer) -> None:
    model = upcycled(dense, strata=[4], combine_weights="before_drop", capacity_factor=None)
    src, tgt = (padded(random_sources(seed, 5, 9, 4, VOCAB)) for seed in (3, 4))
    with torch.no_grad():
        expected, found = dense.train()(src, tgt)[0], model.train()(src, tgt)[0]
    dense.eval()
    torch.testing.assert_close(found[tgt != 0], expected[tgt != 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strata", [[2, 4], [2, 2, 2, 2]])
def test_in_strata_a_token_passes_the_dense_layer_as_often_as_it_is_routed(
    dense: Transformer, strata: list[int]
) -> None:
    x_ND = torch.randn(60, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y_ND, passes_N = through_block(upcycled(dense, strata=strata), x_ND)
    assert set(passes_N.tolist()) >= {1, 2}
    with torch.no_grad():
        for x_D, y_D, passes in zip(x_ND, y_ND, passes_N.tolist(), strict=True):
            torch.testing.assert_close(y_D, dense_pass(dense, x_D, passes), rtol=1e-12, atol=1e-12)


def test_a_shared_expert_that_is_added_doubles_the_dense_layer(dense: Transformer) -> None:
    x_ND = torch.randn(9, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y_ND, _ = through_block(upcycled(dense, strata=[4], shared_expert="add"), x_ND)
    with torch.no_grad():
        torch.testing.assert_close(y_ND - x_ND, 2 * (dense_pass(dense, x_ND) - x_ND), rtol=1e-12, atol=1e-12)


def test_gates_are_fresh_by_the_seed_and_experts_are_copies(dense: Transformer) -> None:
    moe = {"strata": [2, 3], "norm": "released", "bias_balancing": 0.01}
    found, fresh = upcycled(dense, **moe).state_dict(), Transformer(MODEL, MoeConfig(**moe), VOCAB, seed=8).state_dict()
    other = upcycled(dense, seed=9, **moe).state_dict()
    source = dense.state_dict()
    for name, value in found.items():
        if ".gates." in name or "output_norm" in name or "balance_steps" in name:
            assert torch.equal(value, fresh[name].to(value.dtype)), name
            assert torch.equal(value, other[name]) is (".gates." not in name)
        elif ".experts." in name:
            assert torch.equal(value, source[f"{name.split('.experts.')[0]}.ffn.{name.rsplit('.', 1)[1]}"]), name
        elif ".norms." in name:
            assert torch.equal(value, source[f"{name.split('.norms.')[0]}.norm.{name.rsplit('.', 1)[1]}"]), name
        else:
            assert torch.equal(value, source[name]), name


def test_noise_tells_the_experts_apart(dense: Transformer) -> None:
    moe = {"strata": [4, 4], "shared_expert": "add"}
    plain, noisy = (upcycled(dense, noise, **moe).state_dict() for noise in (0.0, 0.1))
    again, other = upcycled(dense, 0.1, **moe).state_dict(), upcycled(dense, 0.1, seed=9, **moe).state_dict()
    w1 = [noisy[f"{BLOCK}.experts.{e}.w1"] - plain[f"{BLOCK}.experts.{e}.w1"] for e in range(8)]
    std = plain[f"{BLOCK}.experts.0.w1"].std()
    for e, difference in enumerate(w1):
        assert difference.std() / std == pytest.approx(0.1, rel=0.2)
        assert not any(torch.equal(difference, another) for another in w1[:e])
    for name, value in noisy.items():
        assert torch.equal(value, again[name])
        assert torch.equal(value, plain[name]) is (".experts." not in name), name
        if ".experts." in name:
            assert not torch.equal(value, other[name]), name


def test_a_new_adapter_reads_the_dense_network_and_adds_nothing(dense: Transformer) -> None:
    model = upcycled(dense, strata=[2, 2], experts={"kind": "adapters", "rank": 3})
    found, source = model.state_dict(), dense.state_dict()
    for matrix in ("w1", "b1", "w2", "b2"):
        assert torch.equal(found[f"{BLOCK}.common.{matrix}"], source[f"{BLOCK}.ffn.{matrix}"])
    down = [found[f"{BLOCK}.experts.{e}.down"] for e in range(4)]
    assert not torch.equal(down[0], down[1])
    assert all(found[f"{BLOCK}.experts.{e}.up"].eq(0).all() for e in range(4))


def test_before_drop_in_training_adapters_too(dense: Transformer) -> None:
    """Their own dropout changes nothing either, as long as they add nothing."""
    experts = {"kind": "adapters", "dropout": 0.5}
    model = upcycled(dense, strata=[4], combine_weights="before_drop", capacity_factor=None, experts=experts)
    src, tgt = (padded(random_sources(seed, 5, 9, 4, VOCAB)) for seed in (3, 4))
    with torch.no_grad():
        expected, found = dense(src, tgt)[0], model.train()(src, tgt)[0]
    torch.testing.assert_close(found[tgt != 0], expected[tgt != 0], rtol=1e-12, atol=1e-12)


def test_a_short_bond_makes_chains_an_approximation(dense: Transformer) -> None:
    """The smallest error that a chain with this bond can have is not 0, and noise moves the experts apart."""
    x_ND = torch.randn(9, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = dense_pass(dense, x_ND)
    errors = []
    for bond in (2, 8, None):
        model = upcycled(dense, strata=[4], experts={"kind": "mpo", "bond": bond})
        errors.append((through_block(model, x_ND)[0] - expected).norm().item())
    assert errors[0] > errors[1] > 0.01
    assert errors[2] < 1e-12
    noisy = upcycled(dense, 0.1, strata=[4], experts={"kind": "mpo"}).state_dict()
    assert not torch.equal(noisy[f"{BLOCK}.experts.0.w1_2"], noisy[f"{BLOCK}.experts.1.w1_2"])


def test_another_model_is_refused(dense: Transformer) -> None:
    source = {name: parameter.detach() for name, parameter in dense.named_parameters()}
    wide = Transformer(MODEL.model_copy(update={"d_ffn": 32}), MoeConfig(strata=[2, 2]), VOCAB)
    with pytest.raises(
        CheckpointError, match=r"^dense: is not the dense twin .*of another shape \(.*w1 \[24, 16\] inst"
    ):
        upcycle(source, wide, noise=0.0, seed=1, source=Path("dense"))
    experts = dict(random_model(1, [2, 2], VOCAB).named_parameters())
    model = Transformer(MODEL, MoeConfig(strata=[2, 2]), VOCAB)
    with pytest.raises(CheckpointError, match=r"missing \(encoder\.layers\.1\.ffn\.norm.*not in this model"):
        upcycle(experts, model, noise=0.0, seed=1, source=Path("dense"))


def test_experts_of_different_width_are_refused(dense: Transformer) -> None:
    with pytest.raises(CheckpointError, match=r"expert_widths: experts of different width cannot be copies of one"):
        upcycled(dense, strata=[2], expert_widths=[1, 3])


def test_a_block_with_heads_is_refused(dense: Transformer) -> None:
    with pytest.raises(CheckpointError, match="too narrow to be copies; set heads to 1"):
        upcycled(dense, strata=[6], heads=2)
