"""Grouped matrix products against the loop, and where they are refused."""

from __future__ import annotations

import pytest
import torch

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.experts import ExpertFFN, apply_experts
from smoe_ds.moe.experts_grouped import apply_experts_grouped, grouped_mm_problem

CPU = torch.device("cpu")


def experts(number: int, activation: str, dtype: torch.dtype) -> list[ExpertFFN]:
    made = []
    for e in range(number):
        expert = ExpertFFN(16, 32, activation)
        expert.initialize("test", e, how="xavier")
        torch.nn.init.normal_(expert.b1)
        made.append(expert.to(dtype))
    return made


@pytest.mark.parametrize("counts", [[5, 0, 7], [0, 0, 1], [12, 3, 9]], ids=str)
@pytest.mark.parametrize("activation", ["relu", "gelu", "swiglu"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_equals_the_loop(counts: list[int], activation: str, dtype: torch.dtype, tolerance: float) -> None:
    if problem := grouped_mm_problem(CPU, dtype):
        pytest.skip(problem)
    torch.manual_seed(0)
    made = experts(3, activation, dtype)
    rows = torch.randn(sum(counts), 16, dtype=dtype, requires_grad=True)
    inputs = [rows, *(p for expert in made for p in expert.parameters())]
    grad = torch.randn_like(rows)
    results = []
    for apply in (apply_experts, apply_experts_grouped):
        out = apply(made, rows, counts)
        results.append([out, *torch.autograd.grad(out, inputs, grad)])
    for loop, grouped in zip(*results, strict=True):
        torch.testing.assert_close(grouped, loop, rtol=tolerance, atol=tolerance * loop.abs().max().item())


def test_layer_with_grouped_experts_equals_the_one_with_the_loop() -> None:
    x = torch.randn(50, 16)
    outputs = []
    for backend in ("loop", "grouped"):
        torch.manual_seed(1)
        layer = StratifiedMoE(16, 32, [2, 3], expert_backend=backend, expert_init="xavier")
        outputs.append(layer(x)[0])
        assert layer(x[:0])[0].shape == (0, 16)
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_works_is_found_out_without_gradients_too(mode: type) -> None:
    grouped_mm_problem.cache_clear()
    expected = grouped_mm_problem(CPU, torch.bfloat16)
    grouped_mm_problem.cache_clear()
    with mode():
        assert grouped_mm_problem(CPU, torch.bfloat16) == expected
    grouped_mm_problem.cache_clear()
