"""The stratified layer against a per-token float64 loop."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.losses import load_balancing_loss
from tests.helpers.layers import Twins, noisy_layer

STRATA = [[8], [4, 4], [4, 4, 8], [2, 2, 2, 2], [3, 5]]
D, F, N = 6, 10, 23
TOLERANCE = 1e-12


def make_layer(strata: list[int], top_k: int = 2, **settings: object) -> StratifiedMoE:
    return noisy_layer(D, F, strata, top_k, **settings)


def make_twins(strata: list[int], top_k: int = 2, **settings: object) -> Twins:
    return Twins(D, F, strata, top_k, **settings)


def make_input(seed: int = 0, n: int = N) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def results_and_gradients(layer: StratifiedMoE, x: Tensor, y: Tensor, loss: Tensor) -> list[Tensor]:
    inputs = [x, *layer.parameters()]
    target = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    grads = torch.autograd.grad((y * target).sum() + 3 * loss, inputs, allow_unused=True)
    return [y, loss, *(torch.zeros_like(p) if g is None else g for p, g in zip(inputs, grads, strict=True))]


def assert_equals_naive(twins: Twins, x: Tensor, padding: list[bool]) -> None:
    layer = twins.layer
    y, stats = layer(x.view(1, *x.shape), torch.tensor(padding).view(1, -1))
    fast = results_and_gradients(layer, x, y[0], load_balancing_loss([stats]))
    naive = twins.loop(x, padding)
    slow = results_and_gradients(layer, x, naive.y, naive.balance_loss)
    for got, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(got, expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert stats.requested_capacity.flatten().tolist() == naive.requested_capacity
    assert [s.num_tokens for s in stats.strata] == naive.tokens_per_stratum
    assert sum(s.num_dropped for s in stats.strata) == naive.num_dropped
    assert stats.num_passes == sum(naive.requested_capacity)


@pytest.mark.parametrize("capacity_factor", [None, 2.0, 0.6])
@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("strata", STRATA, ids=str)
def test_equals_per_token_loop(strata: list[int], top_k: int, capacity_factor: float | None) -> None:
    twins = make_twins(strata, top_k, capacity_factor=capacity_factor)
    padding = [n % 5 == 3 for n in range(N)]
    assert_equals_naive(twins, make_input().requires_grad_(), padding)


@pytest.mark.parametrize(
    ("norm", "weights"), list(itertools.product(["paper", "released"], ["after_drop", "before_drop", "raw", "ones"]))
)
@pytest.mark.parametrize("top_k", [1, 2])
def test_settings_equal_per_token_loop(norm: str, weights: str, top_k: int) -> None:
    twins = make_twins([3, 2, 3], top_k, norm=norm, combine_weights=weights, capacity_factor=0.7)
    assert_equals_naive(twins, make_input(1).requires_grad_(), [n in (0, 7, 8) for n in range(N)])


def test_capacity_drops_rows_in_training_only() -> None:
    twins = make_twins([4, 4], capacity_factor=0.3)
    layer, x = twins.layer, make_input()
    dropped_training = sum(s.num_dropped for s in layer(x)[1].strata)
    layer.eval()
    _, stats = layer(x)
    assert dropped_training > 0
    assert sum(s.num_dropped for s in stats.strata) == 0
    assert_equals_naive(twins, x.requires_grad_(), [False] * N)


@pytest.mark.parametrize("jump", [0, 1, 2])
def test_empty_strata(jump: int) -> None:
    """All tokens choose one stratum first, so that the ones jumped over stay empty."""
    twins = make_twins([2, 3, 2])
    layer = twins.layer
    layer.gates[0].data.zero_()
    layer.norms[0].weight.data.zero_()  # h equals the bias for every token
    layer.norms[0].bias.data.fill_(1.0)
    first = layer.placement.first_expert(jump)
    layer.gates[0].data[first] = 1.0
    x = make_input(2).requires_grad_()
    assert_equals_naive(twins, x, [False] * N)
    counts = [s.num_tokens for s in layer(x)[1].strata]
    assert counts[1:jump] == [0] * (max(jump, 1) - 1)
    assert counts[0] == N


def test_all_padding_batch_has_zero_gradients_everywhere() -> None:
    layer = make_layer([3, 5])
    x = make_input().requires_grad_()
    y, stats = layer(x, torch.ones(N, dtype=torch.bool))
    torch.testing.assert_close(y, x, rtol=0, atol=0)
    grads = torch.autograd.grad(y.sum() + load_balancing_loss([stats]), [x, *layer.parameters()])
    assert torch.equal(grads[0], torch.ones_like(x))
    assert all(g.abs().max() == 0 for g in grads[1:])
    assert load_balancing_loss([stats]).item() == 0
    assert stats.requested_capacity.sum() == 0


def test_every_parameter_gets_a_gradient_even_without_rows() -> None:
    """One token cannot reach every expert; the engine still needs a gradient for each of them."""
    layer = make_layer([4, 4, 8])
    y, _ = layer(make_input(n=1))
    y.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_padding_content_does_not_matter() -> None:
    layer = make_layer([2, 2])
    padding = torch.tensor([n >= 10 for n in range(N)])
    x = make_input()
    other = torch.where(padding.unsqueeze(1), torch.full_like(x, 1e3), x)
    torch.testing.assert_close(layer(x, padding)[0][:10], layer(other, padding)[0][:10], rtol=0, atol=0)


class Waits(TorchDispatchMode):
    """Counts where single numbers are read by the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_number_of_tokens_spares_a_wait_and_changes_nothing() -> None:
    layer = StratifiedMoE(8, 16, [3, 3], expert_init="xavier")
    x, padding_mask = torch.randn(4, 9, 8), torch.rand(4, 9) < 0.3
    results, waits = [], []
    for number in (None, int((~padding_mask).sum())):
        torch.manual_seed(0)
        with Waits() as mode:
            y, stats = layer(x, padding_mask, number)
        results.append(
            [y, load_balancing_loss([stats]), *torch.autograd.grad(y.square().sum(), list(layer.parameters()))]
        )
        waits.append(mode.count)
    assert waits == [1, 0]
    for without, given in zip(*results, strict=True):
        assert torch.equal(without, given)


def test_second_expert_is_drawn_in_training_only() -> None:
    twins = make_twins([8], capacity_factor=None, second_expert="sample")
    layer, x = twins.layer, make_input()
    torch.manual_seed(1)
    drawn = [layer(x)[0] for _ in range(2)]
    assert not torch.equal(*drawn)
    torch.manual_seed(1)
    torch.testing.assert_close(layer(x)[0], drawn[0], rtol=0, atol=0)
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])
    assert_equals_naive(twins, x.requires_grad_(), [False] * N)


def test_gate_gradient_reaches_every_gate_from_the_task_loss() -> None:
    layer = make_layer([4, 4, 4], capacity_factor=None)
    y, _ = layer(make_input(n=200))
    y.square().sum().backward()
    assert all(gate.grad.abs().max() > 0 for gate in layer.gates)


def test_custom_experts_are_used() -> None:
    layer = StratifiedMoE(D, F, [2, 2], expert=lambda: torch.nn.Linear(D, D)).double()
    y, _ = layer(make_input())
    assert y.shape == (N, D)
    assert {type(e) for e in layer.experts.values()} == {torch.nn.Linear}


@pytest.mark.parametrize(
    ("strata", "ep_size", "message"), [([], 1, "at least one"), ([2, 0], 1, "at least one"), ([3, 2], 2, "ep_size 2")]
)
def test_impossible_strata_are_refused(strata: list[int], ep_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StratifiedMoE(D, F, strata, ep_size=ep_size)
