"""Every option of the layer, alone and in combinations, against the per-token float64 loop with the same noise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.losses import cmr_budget_loss, load_balancing_loss, router_z_loss
from tests.helpers.layers import Twins, noisy_layer

D, F = 6, 10
OPTIONS: dict[str, dict] = {
    "gelu": {"activation": "gelu"},
    "swiglu": {"activation": "swiglu"},
    "top_k 3": {"top_k": 3},
    "top_k 3 drawn": {"top_k": 3, "second_expert": "sample", "capacity_factor": None},
    "second expert drawn": {"second_expert": "sample"},
    "stacked": {"stacked": True},
    "stacked, capacity": {"stacked": True, "capacity_factor": 0.6},
    "stacked, released": {"stacked": True, "norm": "released"},
    "output masking": {"expert_output_masking": 0.3, "capacity_factor": 0.7},
    "shared expert": {"shared_expert": "add"},
    "cmr": {"shared_expert": "cmr", "cmr_gate_dropout": 0.0},
    "cmr with gate dropout": {"shared_expert": "cmr", "cmr_gate_dropout": 0.4},
    "residual": {"shared_expert": "residual", "capacity_factor": 0.7},
    "final masking": {"final_output_masking": 0.3},
    "final masking, all masked": {
        "final_output_masking": 0.3,
        "expert_output_masking": 0.2,
        "shared_expert": "cmr",
        "dropout": 0.2,
    },
    "final masking, stacked": {"final_output_masking": 0.3, "stacked": True, "shared_expert": "residual"},
    "jitter": {"jitter": 0.2},
    "capacity by probability": {"capacity_order": "probability", "capacity_factor": 0.5},
    "dropout": {"dropout": 0.3, "capacity_factor": 0.7},
    "gates left aside": {"gating_dropout": 0.5},
    "gates left aside, local": {"gating_dropout": 0.9, "gating_dropout_mode": "local"},
    "bias": {"bias_balancing": 0.05},
}


def make_layer(strata: list[int], **options: object) -> StratifiedMoE:
    return noisy_layer(D, F, strata, **options)


def make_twins(strata: list[int], training: bool, **options: object) -> Twins:
    twins = Twins(D, F, strata, **options)
    twins.layer.train(training)
    return twins


def gradients(layer: StratifiedMoE, x: Tensor, y: Tensor, *losses: Tensor) -> list[Tensor]:
    inputs = [x, *layer.parameters()]
    target = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    total = (y * target).sum() + sum(weight * loss for weight, loss in enumerate(losses, start=2))
    grads = torch.autograd.grad(total, inputs, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(inputs, grads, strict=True)]


def assert_equals_naive(twins: Twins, x: Tensor, padding: list[bool], seed: int = 7) -> None:
    layer = twins.layer
    torch.manual_seed(seed)
    y, stats = layer(x, torch.tensor(padding, dtype=torch.bool))
    torch.manual_seed(seed)
    naive = twins.loop(x, padding)
    budget = torch.zeros((), dtype=x.dtype)
    naive_budget = budget
    if stats.cmr_gate_sum is not None:
        tokens = naive.tokens_per_stratum[0]
        budget = cmr_budget_loss([stats], 0.8)
        naive_budget = (naive.cmr_gate_sum / tokens - 0.8).abs() if tokens else naive_budget
    fast = [y, load_balancing_loss([stats]), router_z_loss([stats]), budget]
    slow = [naive.y, naive.balance_loss, naive.z_loss, naive_budget]
    for got, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)
    for got, expected in zip(gradients(layer, x, *fast), gradients(layer, x, *slow), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-11)
    assert stats.requested_capacity.tolist() == naive.requested_capacity
    assert [s.num_tokens for s in stats.strata] == naive.tokens_per_stratum
    assert sum(s.num_dropped for s in stats.strata) == naive.num_dropped


def make_input(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("strata", [[6], [3, 4], [3, 3, 3]], ids=str)
@pytest.mark.parametrize("backend", ["loop", "lean"])
@pytest.mark.parametrize("name", OPTIONS)
def test_option_equals_per_token_loop(name: str, backend: str, strata: list[int], training: bool) -> None:
    twins = make_twins(strata, training, expert_backend=backend, **OPTIONS[name])
    for seed in range(2):
        assert_equals_naive(twins, make_input(19, seed), [n % 5 == 3 for n in range(19)], seed)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    strata=st.lists(st.integers(2, 4), min_size=1, max_size=4),
    num_tokens=st.integers(0, 12),
    padded=st.integers(0, 4),
    top_k=st.integers(1, 2),
    training=st.booleans(),
    settings_=st.fixed_dictionaries(
        {
            "activation": st.sampled_from(["relu", "gelu", "swiglu"]),
            "norm": st.sampled_from(["paper", "released"]),
            "combine_weights": st.sampled_from(["after_drop", "before_drop", "raw", "ones"]),
            "second_expert": st.sampled_from(["sample", "argmax"]),
            "capacity_factor": st.sampled_from([None, 0.5, 2.0]),
            "capacity_order": st.sampled_from(["position", "probability"]),
            "stacked": st.booleans(),
            "expert_output_masking": st.sampled_from([0.0, 0.3]),
            "shared_expert": st.sampled_from(["none", "add", "cmr", "residual"]),
            "final_output_masking": st.sampled_from([0.0, 0.3]),
            "dropout": st.sampled_from([0.0, 0.2]),
            "jitter": st.sampled_from([0.0, 0.1]),
            "gating_dropout": st.sampled_from([0.0, 0.3]),
            "bias_balancing": st.sampled_from([0.0, 0.03]),
            "expert_backend": st.sampled_from(["loop", "lean"]),
        }
    ),
)
def test_combinations_equal_per_token_loop(
    strata: list[int], num_tokens: int, padded: int, top_k: int, training: bool, settings_: dict
) -> None:
    twins = make_twins(strata, training, top_k=top_k, **settings_)
    padding = [True] * padded + [False] * num_tokens
    if padding:
        assert_equals_naive(twins, make_input(len(padding)), padding)


@pytest.mark.parametrize("backend", ["loop", "lean"])
def test_no_position_at_all(backend: str) -> None:
    layer = make_layer([2, 2], expert_backend=backend)
    x = make_input(0)
    y, stats = layer(x)
    y.sum().backward()
    assert y.shape == (0, D) and stats.num_tokens == 0
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize("backend", ["loop", "lean"])
def test_gradcheck(backend: str) -> None:
    layer = make_layer([2, 3], expert_backend=backend, capacity_factor=None, shared_expert="cmr", cmr_gate_dropout=0.0)
    x = make_input(5)
    names = ["gates.0", "gates.1", "experts.3.w1", "cmr_gate.weight", "norms.1.weight"]
    parameters = [dict(layer.named_parameters())[name] for name in names]
    assert torch.autograd.gradcheck(
        lambda *_: (layer(x)[0], load_balancing_loss([layer(x)[1]])), (x, *parameters), eps=1e-7
    )


def test_permuted_tokens_permute_the_output() -> None:
    layer = make_layer([3, 3, 3], capacity_factor=None)
    x, order = make_input(40), torch.randperm(40)
    torch.testing.assert_close(layer(x[order])[0], layer(x)[0][order], rtol=1e-12, atol=1e-12)


def test_one_stratum_is_a_vanilla_mixture() -> None:
    layer = make_layer([5], capacity_factor=None)
    x = make_input(17)
    h = layer.norms[0](x)
    weights, chosen = torch.softmax(h @ layer.gates[0].T, -1).topk(2)
    weights = weights / weights.sum(-1, keepdim=True)
    outputs = torch.stack([layer.experts[str(e)](h) for e in range(5)])
    expected = x + sum(weights[:, k, None] * outputs[chosen[:, k], torch.arange(17)] for k in range(2))
    torch.testing.assert_close(layer(x)[0], expected, rtol=1e-12, atol=1e-12)


def test_released_behaviour_by_dense_combine_tensors() -> None:
    """The released code in words: strata after the first add to LayerNorm(x) itself, weights are renormalised over the
    choices that survive capacity, and the block's output is normalised."""
    layer = make_layer([3, 4], norm="released", capacity_factor=0.6)
    x = make_input(21)
    state, todo = x, torch.zeros(21, dtype=torch.long)
    for i, first in enumerate([0, 3]):
        active = todo == i
        h = layer.norms[i](state)
        probs = torch.softmax(h @ layer.gates[i].T, -1)
        chosen = probs.topk(2).indices
        one_hot = torch.nn.functional.one_hot(chosen, 7 - first).permute(1, 0, 2) * active[None, :, None]
        position = one_hot.reshape(-1, 7 - first).cumsum(0).view_as(one_hot) * one_hot
        capacity = -(-6 * int(active.sum()) // (10 * (7 - first)))
        kept = (one_hot * (position <= capacity)).sum(0)
        combine = probs * kept
        combine = combine / combine.sum(-1, keepdim=True).clamp(min=torch.finfo(x.dtype).eps)
        outputs = torch.stack([layer.experts[str(e)](h) for e in range(first, 7)], dim=1)
        mixed = (combine.unsqueeze(-1) * outputs).sum(1)
        state = torch.where(active[:, None], (state if i == 0 else h) + mixed, state)
        after = (chosen[:, 0] + first >= 3).long() + 1
        todo = torch.where(active, after, todo)
    torch.testing.assert_close(layer(x)[0], layer.output_norm(state), rtol=1e-11, atol=1e-12)


def test_two_runs_are_bitwise_equal() -> None:
    def once() -> list[Tensor]:
        torch.manual_seed(0)
        layer = StratifiedMoE(32, 64, [4, 4], dropout=0.1, expert_init="xavier")
        x = torch.randn(300, 32, requires_grad=True)
        y, stats = layer(x)
        (y.square().sum() + load_balancing_loss([stats])).backward()
        return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]

    for first, second in zip(once(), once(), strict=True):
        assert torch.equal(first, second)
