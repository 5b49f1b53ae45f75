"""Experts that keep neither rows nor outputs against the loop, and what they do keep."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.losses import load_balancing_loss
from tests.helpers.layers import noisy_layer

D, F, T = 16, 32, 40


def make_layer(backend: str, dtype: torch.dtype = torch.float64, **options: object) -> StratifiedMoE:
    return noisy_layer(D, F, [2, 3], expert_backend=backend, dtype=dtype, noise=0.1, **options)


def run(layer: StratifiedMoE, inputs: list[Tensor], x: Tensor) -> list[Tensor]:
    torch.manual_seed(3)
    y, stats = layer(x)
    total = (y.double() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() + load_balancing_loss([stats])
    return [y, *torch.autograd.grad(total, inputs)]


@pytest.mark.parametrize("activation", ["relu", "gelu", "swiglu"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2), (torch.float16, 5e-3)],
)
def test_equals_the_loop(activation: str, dtype: torch.dtype, tolerance: float) -> None:
    x = torch.randn(T, D, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    results = []
    for backend in ("loop", "lean"):
        layer = make_layer(backend, dtype, activation=activation, dropout=0.3, capacity_factor=0.8)
        results.append(run(layer, [x, *layer.parameters()], x))
    for loop, lean in zip(*results, strict=True):
        assert lean.dtype == loop.dtype
        torch.testing.assert_close(lean, loop, rtol=tolerance, atol=tolerance * loop.abs().max().item())


@pytest.mark.parametrize("frozen", ["w1", "b1", "w3", "b3", "w2", "b2", "gates", "norms", "experts"])
def test_frozen_parameters_leave_the_other_gradients_as_they_are(frozen: str) -> None:
    x = torch.randn(T, D, dtype=torch.float64, requires_grad=True)
    whole, part = (make_layer("lean", activation="swiglu") for _ in range(2))
    names = [name for name, _ in whole.named_parameters() if frozen not in name.split(".")]
    for name, parameter in part.named_parameters():
        parameter.requires_grad_(name in names)
    expected, got = (run(layer, [x, *(layer.get_parameter(name) for name in names)], x) for layer in (whole, part))
    assert len(names) < len(list(whole.parameters()))
    for one, other in zip(expected, got, strict=True):
        assert torch.equal(one, other)


def test_input_without_gradient() -> None:
    layer, x = make_layer("lean"), torch.randn(T, D, dtype=torch.float64)
    for module in (layer.norms, layer.gates):
        for parameter in module.parameters():
            parameter.requires_grad_(False)
    grads = run(layer, list(layer.experts.parameters()), x)
    other = make_layer("loop")
    for one, two in zip(grads, run(other, list(other.experts.parameters()), x), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_two_backward_passes_of_one_graph_are_bitwise_equal() -> None:
    layer, x = make_layer("lean"), torch.randn(T, D, dtype=torch.float64, requires_grad=True)
    y = layer(x)[0]
    inputs = [x, *layer.experts.parameters()]
    once, again = (torch.autograd.grad(y.square().sum(), inputs, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize(("activation", "inner"), [("relu", 1), ("gelu", 1), ("swiglu", 2)])
def test_only_inner_activations_are_kept_per_row(activation: str, inner: int) -> None:
    d_model, d_ffn, tokens = 32, 512, 256
    kept: dict[str, int] = {}
    for backend in ("lean", "loop"):
        layer = StratifiedMoE(d_model, d_ffn, [4], activation=activation, expert_backend=backend, capacity_factor=None)
        own = {parameter.data_ptr() for parameter in layer.parameters()}
        saved: dict[int, int] = {}

        def pack(tensor: Tensor, own: set[int] = own, saved: dict[int, int] = saved) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = layer(torch.randn(tokens, d_model, requires_grad=True))[0]
        kept[backend] = sum(saved.values())
        del y
    rows = 2 * tokens
    expected = 4 * (inner * rows * d_ffn + 2 * tokens * d_model)  # and LayerNorm's input and output
    assert expected <= kept["lean"] <= 1.05 * expected
    assert kept["loop"] >= kept["lean"] + 0.9 * 4 * 2 * rows * d_model  # rows and outputs
