"""Arguments and inputs that cannot work."""

from __future__ import annotations

import itertools

import pytest
import torch

from smoe_ds.errors import LaunchError, NonFiniteError
from smoe_ds.moe import StratifiedMoE, stratified_moe

ONE = torch.nn.Linear(8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strata": []}, "at least one expert"),
        ({"strata": [4, 0]}, "at least one expert"),
        ({"strata": [4, 1]}, "top_k: 2 is above the 1 experts"),
        ({"strata": [4], "top_k": 5}, "set top_k to 4 or less"),
        ({"strata": [1, 4], "stacked": True}, "top_k: 2 is above the 1 experts"),
        ({"strata": [3, 2], "ep_size": 2}, r"ep_size 2 does not divide the 5 experts; choose one of \[1, 5\]"),
        ({"strata": [4], "top_k": 0}, "top_k: expected a value > 0, found 0"),
        ({"strata": [4], "norm": "post"}, "norm: expected 'paper' or 'released', found .post."),
        ({"strata": [4], "activation": "tanh"}, "expected one of relu, gelu, swiglu"),
        ({"strata": [4], "dropout": 1.0}, "dropout is 1.0; expected a number from 0 to below 1"),
        ({"strata": [4], "norm_epsilon": 0.0}, "norm_epsilon is 0.0; expected a number between 0 and 1"),
        ({"strata": [4], "capacity_factor": 0.0}, "capacity_factor: expected a value > 0, found 0.0"),
        ({"strata": [4], "capacity_factor": float("inf")}, "capacity_factor: expected a finite number, found Infinity"),
        ({"strata": [4], "bias_balancing": -1.0}, "bias_balancing: expected a value >= 0, found -1.0"),
        ({"strata": 8}, r"strata 8: expected .* e.g. \[4, 12\]"),
        ({"strata": [4], "exchange_chunks": 0}, "exchange_chunks: expected a value >= 1, found 0"),
        ({"strata": [4], "ep_size": 2, "ep_rank": 2}, "ep_rank is 2; with ep_size 2 .* from 0 to 1"),
        ({"strata": [4], "expert": torch.nn.Linear(8, 8)}, "expert is a Linear; expected a function"),
        ({"strata": [4], "expert": lambda: "no module"}, r"expert\(\) made a str"),
        ({"strata": [4], "expert": lambda: ONE}, "the same module twice"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StratifiedMoE(8, 16, **arguments)


def test_expert_parallelism_without_a_process_group() -> None:
    with pytest.raises(LaunchError, match=r"Call deepspeed\.init_distributed\(\) before"):
        stratified_moe(8, 16, [4], ep_size=2)


def test_expert_parallelism_that_would_stay_silent() -> None:
    class Mine(StratifiedMoE):
        pass

    with pytest.raises(LaunchError, match=r"StratifiedMoE with ep_size 2: .*stratified_moe"):
        StratifiedMoE(8, 16, [4], ep_size=2)
    with pytest.raises(LaunchError, match=r"Mine with ep_size 2: .*ExpertParallelMoE"):
        Mine(8, 16, [4], ep_size=2)
    with pytest.raises(LaunchError, match=r"nothing exchanges rows yet; .*deepspeed\.initialize"):
        StratifiedMoE(8, 16, [4], ep_size=2, ep_rank=0)(torch.zeros(3, 8))


def test_bad_shapes() -> None:
    layer = StratifiedMoE(8, 16, [4])
    with pytest.raises(ValueError, match=r"x has shape \[3, 7\].*d_model 8"):
        layer(torch.zeros(3, 7))
    with pytest.raises(ValueError, match=r"padding_mask has shape \[2\]; expected \[3\]"):
        layer(torch.zeros(3, 8), torch.zeros(2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"padding_mask is torch\.int64; expected torch\.bool"):
        layer(torch.zeros(3, 8), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"x is torch\.int64; expected floating-point"):
        layer(torch.zeros(3, 8, dtype=torch.long))
    for expert in (lambda: torch.nn.Linear(8, 9), lambda: torch.nn.LSTM(8, 8)):
        with pytest.raises(ValueError, match="must keep the number of rows"):
            StratifiedMoE(8, 16, [4], expert=expert)(torch.zeros(3, 8))


def test_number_of_tokens() -> None:
    """A wrong one is refused, whichever way it is wrong, and wherever the padding is."""
    layer = StratifiedMoE(8, 16, [2, 2], name="encoder.1")
    x = torch.randn(5, 8)
    for number, padded in itertools.product(range(-1, 7), range(6)):
        padding_mask = torch.arange(5) >= 5 - padded
        if number == 5 - padded:
            layer(x, padding_mask, number)
            continue
        with pytest.raises(ValueError, match=rf"num_tokens is {number}, but .*leave"):
            layer(x, padding_mask, number)
    with pytest.raises(ValueError, match="num_tokens is 4, but x has 5 positions"):
        layer(x, None, 4)


def test_not_a_number() -> None:
    layer = StratifiedMoE(8, 16, [2, 2], name="encoder.1")
    x = torch.randn(5, 8)
    x[3, 2] = torch.nan
    with pytest.raises(NonFiniteError, match=r"encoder\.1: the input of stratum 0 holds NaN"):
        layer(x)
    y, _ = layer(x, torch.tensor([False, False, False, True, False]))
    assert torch.isfinite(y[[0, 1, 2, 4]]).all()
    layer.check_finite = False
    assert layer(x)[0].isnan().any()
