"""The shared expert's limits that are known without a loop over tokens, and final output masking."""

from __future__ import annotations

import torch
from torch import Tensor

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.shared_expert import mix_shared, mixing_gate
from tests.helpers.layers import change_settings, noisy_layer

D, F = 6, 10


def tokens(number: int = 23) -> Tensor:
    return torch.randn(number, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_coefficients_of_zero_give_the_mean_of_both_branches() -> None:
    layer = noisy_layer(D, F, [4], shared_expert="residual", capacity_factor=None)
    assert layer.coefficient is not None and layer.shared is not None
    torch.nn.init.zeros_(layer.coefficient.weight)
    torch.nn.init.zeros_(layer.coefficient.bias)
    x = tokens()
    mean = layer(x)[0] - x
    dense = layer.shared(layer.norms[0](x))
    change_settings(layer, shared_expert="none")
    layer.shared = None
    routed = layer(x)[0] - x
    torch.testing.assert_close(mean, (routed + dense) / 2, rtol=1e-12, atol=1e-12)


def test_the_sum_without_what_experts_add_is_the_dense_network() -> None:
    layer = noisy_layer(D, F, [3, 3], shared_expert="add")
    for expert in layer.experts.values():
        torch.nn.init.zeros_(expert.w2)
        torch.nn.init.zeros_(expert.b2)
    x = tokens()
    torch.testing.assert_close(layer(x)[0], x + layer.shared(layer.norms[0](x)), rtol=1e-12, atol=1e-12)


def test_the_dense_branch_does_not_start_as_an_expert() -> None:
    layer = StratifiedMoE(D, F, [4], shared_expert="residual")
    assert all(not torch.equal(layer.shared.w1, expert.w1) for expert in layer.experts.values())


def test_gates_compute_in_float32() -> None:
    gate = mixing_gate("residual", D)
    assert gate is not None
    h, y, shared = (torch.randn(5, D, dtype=torch.bfloat16) for _ in range(3))
    mixed, gate_sum = mix_shared(h, y, shared, gate.bfloat16())
    assert mixed.dtype == torch.bfloat16 and gate_sum is None
    share = torch.softmax(h.float() @ gate.weight.float().T + gate.bias, -1)
    expected = share[:, :1] * y.float() + share[:, 1:] * shared.float()
    torch.testing.assert_close(mixed, expected.bfloat16(), rtol=0, atol=0)


def test_final_masking_is_output_masking_where_a_token_has_one_expert() -> None:
    """Both draw one number a token then, the first that is drawn."""
    for training in (True, False):
        outputs = []
        for masking in ("final_output_masking", "expert_output_masking"):
            layer = noisy_layer(D, F, [3, 3], 1, capacity_factor=None, **{masking: 0.4}).train(training)
            torch.manual_seed(3)
            outputs.append(layer(tokens())[0])
        torch.testing.assert_close(*outputs, rtol=1e-13, atol=1e-13)
        assert (outputs[0] == tokens()).all(dim=1).any() == training


def test_final_masking_leaves_a_token_its_whole_output_or_none() -> None:
    layer = noisy_layer(D, F, [4], shared_expert="add", final_output_masking=0.4, capacity_factor=None)
    masked = layer(tokens(400))[0] - tokens(400)
    change_settings(layer, final_output_masking=0.0)
    whole = layer(tokens(400))[0] - tokens(400)
    kept = (masked != 0).any(dim=1)
    torch.testing.assert_close(masked[kept], whole[kept], rtol=1e-12, atol=1e-12)
    assert 0.5 < kept.double().mean() < 0.7
