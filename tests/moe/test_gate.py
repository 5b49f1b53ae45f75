"""Choices, sampling and weights of a gate."""

from __future__ import annotations

import pytest
import torch

from smoe_ds.moe.gate import choose, gate_logits, normalised_weights


def test_sampled_second_expert_follows_the_gate_probabilities() -> None:
    probs = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).expand(40_000, 4)
    torch.manual_seed(0)
    expert_TK = choose(probs, top_k=2, sample=True)
    assert (expert_TK[:, 0] == 0).all()
    share = torch.bincount(expert_TK[:, 1], minlength=4) / 40_000
    expected = torch.tensor([0, 0.6, 0.3, 0.1])
    assert (share - expected).abs().max() < 0.01


def test_ties_go_to_the_lower_number() -> None:
    assert choose(torch.full((1, 4), 0.25), 2, sample=False).tolist() == [[0, 1]]
    assert choose(torch.full((1, 4), 0.25), 3, sample=False).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("top_k", [2, 3])
def test_choices_differ(top_k: int) -> None:
    probs = torch.zeros(50, 3)
    probs[:, 1] = 1.0  # the others have probability zero
    for sample in (False, True):
        chosen = choose(probs, top_k, sample)
        assert (chosen[:, 0] == 1).all()
        assert all(len(set(row)) == top_k for row in chosen.tolist())


def test_gate_runs_in_float32_for_half_precision_models() -> None:
    h, w = torch.randn(5, 8).half(), torch.randn(4, 8).half()
    torch.testing.assert_close(gate_logits(h, w), h.float() @ w.float().T)
    with torch.autocast("cpu", torch.bfloat16):
        assert gate_logits(h.float(), w.float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("after_drop", [[0.75, 0.25], [1.0, 0], [0, 0]]),
        ("before_drop", [[0.75, 0.25], [0.75, 0], [0, 0]]),
        ("raw", [[0.6, 0.2], [0.6, 0], [0, 0]]),
        ("ones", [[1.0, 1.0], [1.0, 0], [0, 0]]),
    ],
)
def test_weights(mode: str, expected: list[list[float]]) -> None:
    probs = torch.tensor([[0.6, 0.2]], dtype=torch.float64).repeat(3, 1)
    kept = torch.tensor([[True, True], [True, False], [False, False]])
    torch.testing.assert_close(normalised_weights(probs, kept, mode), torch.tensor(expected, dtype=torch.float64))
    whole = normalised_weights(probs[:1], None, mode)
    torch.testing.assert_close(whole, torch.tensor(expected[:1], dtype=torch.float64))


def test_choices_without_any_probability_weigh_nothing() -> None:
    """Balancing biases may choose experts whose probabilities are 0 in floating point."""
    assert normalised_weights(torch.tensor([[0.0, 0.0], [0.0, 0.5]]), None, "after_drop").tolist() == [[0, 0], [0, 1]]


def test_a_single_choice_keeps_its_probability() -> None:
    probs = torch.tensor([[0.6], [0.3]])
    kept = torch.tensor([[True], [False]])
    torch.testing.assert_close(normalised_weights(probs, kept, "after_drop"), torch.tensor([[0.6], [0.0]]))
