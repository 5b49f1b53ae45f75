"""The layer on a GPU: options against the per-token float64 loop, half precision against float64, repeatability."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.experts_grouped import grouped_mm_problem
from tests.helpers.layers import change_settings
from tests.moe.test_options import OPTIONS, assert_equals_naive, make_input, make_layer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def on_gpu(x: Tensor) -> Tensor:
    return x.detach().cuda().requires_grad_()


@pytest.mark.parametrize("backend", ["loop", "lean"])
@pytest.mark.parametrize("name", OPTIONS)
def test_option_equals_per_token_loop(name: str, backend: str) -> None:
    layer = make_layer([3, 4], expert_backend=backend, **OPTIONS[name]).cuda()
    with torch.device("cuda"):
        assert_equals_naive(layer, on_gpu(make_input(19)), [n % 5 == 3 for n in range(19)])


def passed(layer: StratifiedMoE, x: Tensor, out_grad: Tensor) -> list[Tensor]:
    """Output, gradient of the input and of every parameter."""
    y, _ = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], out_grad.to(y.dtype))]


def with_firm_choices() -> tuple[StratifiedMoE, Tensor]:
    """A layer and tokens each of which lies near its own two experts' directions, so that rounding turns no choice."""
    torch.manual_seed(0)
    layer = StratifiedMoE(128, 256, [3, 4], second_expert="argmax", capacity_factor=None, expert_init="xavier")
    x = 0.3 * torch.randn(600, 128).clamp(-1, 1)
    x[:, :16] = 0
    rows, first = torch.arange(600), torch.randint(12, (600,))
    with torch.no_grad():
        for gate, start in zip(layer.gates, (0, 8), strict=True):
            gate.copy_(0.5 * torch.nn.functional.one_hot(start + torch.arange(len(gate)), 128))
            x[rows, start + first % len(gate)] = 6.0
            x[rows, start + (first + 1) % len(gate)] = 3.0
    return layer, x


@pytest.mark.parametrize("activation", ["relu", "gelu", "swiglu"])
@pytest.mark.parametrize(
    ("backend", "dtype"),
    [("loop", torch.bfloat16), ("lean", torch.bfloat16), ("grouped", torch.bfloat16), ("lean", torch.float16)],
    ids=str,
)
def test_half_precision_is_near_float64(backend: str, dtype: torch.dtype, activation: str) -> None:
    if backend == "grouped" and (problem := grouped_mm_problem(torch.device("cuda"), dtype)):
        pytest.skip(problem)
    firm, x = with_firm_choices()
    settings = {"second_expert": "argmax", "capacity_factor": None, "expert_init": "xavier"}
    layer = StratifiedMoE(128, 256, [3, 4], activation=activation, **settings)
    layer.gates = firm.gates
    layer = layer.to("cuda", dtype)
    exact = copy.deepcopy(layer).double()
    change_settings(layer, expert_backend=backend)
    change_settings(exact, expert_backend="loop")
    x, grad = x.to(dtype), torch.randn(600, 128).to(dtype).cuda()
    got = passed(layer, on_gpu(x), grad)
    expected = passed(exact, on_gpu(x.double()), grad)
    compared = 1 if activation == "relu" else len(got)  # a ReLU's derivative jumps where rounding turns a sign
    for ours, theirs in zip(got[:compared], expected[:compared], strict=True):
        assert torch.isfinite(ours).all()
        assert (ours.double() - theirs).norm() < 5 * torch.finfo(dtype).eps * theirs.norm()


@pytest.mark.parametrize("backend", ["loop", "lean", "grouped"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_two_passes_are_bitwise_equal(backend: str, dtype: torch.dtype) -> None:
    """With more rows than one thread block takes; atomics would show."""
    if backend == "grouped" and (problem := grouped_mm_problem(torch.device("cuda"), dtype)):
        pytest.skip(problem)
    settings = {"dropout": 0.1, "jitter": 0.01, "expert_backend": backend, "expert_init": "xavier"}
    layer = StratifiedMoE(256, 512, [4, 4, 8], **settings).to("cuda", dtype)
    x, grad = torch.randn(8192, 256, device="cuda", dtype=dtype), torch.randn(8192, 256, device="cuda", dtype=dtype)

    def once() -> list[Tensor]:
        torch.manual_seed(0)
        return passed(layer, x.detach().requires_grad_(), grad)

    for first, second in zip(once(), once(), strict=True):
        assert torch.equal(first, second)


def test_routing_is_that_of_the_processor() -> None:
    layer = StratifiedMoE(64, 128, [4, 4], second_expert="argmax", expert_init="xavier").double()
    x = torch.randn(500, 64, dtype=torch.float64)
    y, stats = layer(x)
    on_device, stats_there = layer.cuda()(x.cuda())
    torch.testing.assert_close(on_device.cpu(), y, rtol=1e-11, atol=1e-12)
    assert torch.equal(stats_there.requested_capacity.cpu(), stats.requested_capacity)
    for here, there in zip(stats.strata, stats_there.strata, strict=True):
        assert torch.equal(here.requested_KE, there.requested_KE.cpu()) and here.num_dropped == there.num_dropped
