"""A model of several strata right after upcycling against the dense model it was made of, in float64."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.config.moe import MoeConfig
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.placement import Placement
from smoe_ds.weights.preserve import gate_groups, preserve_function, preserve_problem
from smoe_ds.weights.upcycle import upcycle
from tests.helpers.random_translation_model import MODEL, padded, random_model, random_sources

VOCAB = 29


@pytest.fixture(scope="module")
def dense() -> Transformer:
    return random_model(3, [], VOCAB)


def upcycled(dense: Transformer, method: str = "preserve", noise: float = 0.0, **moe: Any) -> Transformer:
    config = MoeConfig(**moe)
    assert method == "copy" or preserve_problem(config.blocks(MODEL)) is None
    model = Transformer(MODEL, config, VOCAB, seed=8).eval()
    source = {name: parameter.detach() for name, parameter in dense.named_parameters()}
    weights = upcycle(source, model, noise=noise, seed=8, source=Path("dense"))
    if method == "preserve":
        preserve_function(weights, model)
    model = model.double()
    model.load_state_dict(weights)
    return model


def differences(dense: Transformer, model: Transformer) -> tuple[float, set[int]]:
    """The largest difference of two logits, and how many passes tokens took in the blocks."""
    src, tgt = (padded(random_sources(seed, 9, 9, 4, VOCAB)) for seed in (1, 2))
    with torch.no_grad():
        expected, (found, stats) = dense(src, tgt)[0], model(src, tgt)
    passes = {int(number) for block in stats for number in block.requested_capacity.unique()}
    return float((found - expected)[tgt != 0].abs().max()), passes - {0}


SYSTEMS = [
    {"strata": [2, 4]},
    {"strata": [4, 4]},
    {"strata": [3, 5]},
    {"strata": [1, 2, 3]},
    {"strata": [2, 2, 2, 2]},
    {"strata": [2, 2, 2, 2], "every": 1},
    {"strata": [3, 7], "top_k": 3},
    {"strata": [4, 4], "combine_weights": "before_drop"},
    {"strata": [2, 4], "bias_balancing": 0.01},
    {"strata": [2, 4], "shared_expert": "add"},
    {"strata": [4], "shared_expert": "add", "top_k": 1},
    {"strata": [2, 4], "shared_expert": "add", "combine_weights": "raw", "gate_scores": "cosine"},
    {"strata": [2, 2, 4], "shared_expert": "add", "router": {"kind": "top_p"}},
    {"strata": [2, 3], "top_k": 1, "combine_weights": "ones"},
    {"strata": [1, 1, 1], "top_k": 1, "combine_weights": "ones"},
    {"strata": [2, 3], "router": {"kind": "hash"}},
]


@pytest.mark.parametrize("moe", SYSTEMS, ids=str)
def test_it_computes_what_the_dense_model_does(dense: Transformer, moe: dict[str, Any]) -> None:
    difference, passes = differences(dense, upcycled(dense, **moe))
    assert difference < 1e-12
    assert passes >= set(range(1, min(len(moe["strata"]), 3)))
    if len(moe["strata"]) > 1:
        assert differences(dense, upcycled(dense, "copy", **moe))[0] > 0.01


def test_it_does_so_in_training_where_nothing_is_drawn_or_dropped(dense: Transformer) -> None:
    settings = {"second_expert": "argmax", "capacity_factor": None}
    model = upcycled(dense, strata=[2, 4], **settings)
    try:
        assert differences(dense.train(), model.train())[0] < 1e-12
        drawn = upcycled(dense, strata=[2, 4], capacity_factor=None)
        assert differences(dense.train(), drawn.train())[0] > 0.01
    finally:
        dense.eval()


@pytest.mark.parametrize("moe", [{"strata": [4]}, {"strata": [4], "shared_expert": "cmr"}], ids=str)
def test_a_single_stratum_is_made_of_plain_copies(dense: Transformer, moe: dict[str, Any]) -> None:
    plain = upcycled(dense, "copy", 0.1, **moe).state_dict()
    for name, value in upcycled(dense, "preserve", 0.1, **moe).state_dict().items():
        assert torch.equal(value, plain[name]), name


def test_too_few_experts_in_front_keep_the_function_less_well_but_better_than_copies(dense: Transformer) -> None:
    found, copies = (differences(dense, upcycled(dense, method, strata=[1, 4]))[0] for method in ("preserve", "copy"))
    assert 1e-6 < found < copies


def test_every_expert_that_is_taken_learns_from_the_first_step(dense: Transformer) -> None:
    model = upcycled(dense, strata=[2, 2, 2, 2])
    block = next(module for module in model.modules() if isinstance(module, StratifiedMoE))
    x_ND = torch.randn(200, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y_ND, stats = block(x_ND)
    y_ND.square().sum().backward()
    assert stats.strata[0].requested_KE.sum(0).min() > 0
    for expert in block.experts.values():
        assert expert.w2.grad is not None and expert.w2.grad.abs().max() > 0  # type: ignore[union-attr]


def test_only_last_matrices_of_early_experts_and_gates_differ_from_plain_copies(dense: Transformer) -> None:
    moe: dict[str, Any] = {"strata": [2, 3, 2]}
    plain, found = (upcycled(dense, method, 0.1, **moe).state_dict() for method in ("copy", "preserve"))
    for name, value in found.items():
        parts = name.split(".")
        zero = parts[-1] in ("w2", "b2") and "experts" in parts and int(parts[-2]) < 5
        if zero:
            assert not value.any(), name
        elif "gates" not in parts:
            assert torch.equal(value, plain[name]), name


def test_beside_an_added_expert_all_others_start_at_zero_and_training_changes_nothing(dense: Transformer) -> None:
    moe: dict[str, Any] = {"strata": [2, 4], "shared_expert": "add", "capacity_factor": 1.0}
    model = upcycled(dense, **moe)
    try:
        assert differences(dense.train(), model.train())[0] < 1e-12
    finally:
        dense.eval()
    plain = upcycled(dense, "copy", **moe).state_dict()
    for name, value in model.state_dict().items():
        if ".experts." in name and name.endswith(("w2", "b2")):
            assert not value.any(), name
        else:
            assert torch.equal(value, plain[name]), name


def test_rows_of_gates_are_equal_within_groups_and_differ_between_them(dense: Transformer) -> None:
    block = next(m for m in upcycled(dense, strata=[2, 2, 4]).modules() if isinstance(m, StratifiedMoE))
    assert [[row.tolist() for row in gate] == [gate[i // 2 * 2].tolist() for i in range(len(gate))]
            for gate in block.gates] == [True] * 3  # fmt: skip
    assert [len(gate.unique(dim=0)) for gate in block.gates] == [4, 3, 2]


@pytest.mark.parametrize(
    ("strata", "stratum", "top_k", "groups"),
    [
        ((4, 4), 0, 2, [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ((4, 4), 1, 2, [[4, 5], [6, 7]]),
        ((3, 5), 0, 2, [[0, 1, 2], [3, 4], [5, 6, 7]]),
        ((1, 2, 3), 0, 2, [[0, 1, 2], [3, 4, 5]]),
        ((1, 2, 3), 1, 2, [[1, 2], [3, 4, 5]]),
        ((2, 1, 2), 0, 2, [[0, 1, 2], [3, 4]]),
        ((2, 1, 2), 1, 2, [[2], [3, 4]]),
        ((1, 4), 0, 2, [[0], [1, 2], [3, 4]]),
        ((2, 2), 0, 1, [[0], [1], [2], [3]]),
        ((8,), 0, 3, [[0, 1, 2], [3, 4, 5, 6, 7]]),
    ],
)
def test_groups(strata: tuple[int, ...], stratum: int, top_k: int, groups: list[list[int]]) -> None:
    assert gate_groups(Placement(strata), stratum, top_k) == groups


@pytest.mark.parametrize(
    ("moe", "message"),
    [
        ({"strata": [4], "norm": "released"}, "smoe.moe.norm: released normalises .*; set it to paper"),
        ({"strata": [4], "top_k": 1}, "combine_weights: with top_k 1 .*; set top_k to 2, or combine_weights to ones"),
        ({"strata": [4], "combine_weights": "raw"}, "combine_weights: raw weights do not .*; set it to after_drop"),
        ({"strata": [4], "combine_weights": "ones"}, "combine_weights: ones adds up .*; set it to after_drop"),
        ({"strata": [4], "router": {"kind": "top_p"}}, "router: weights of the router top_p .*; choose top_k or hash"),
        ({"strata": [4], "expert_output_masking": 0.1}, "expert_output_masking: .*leave it to the run that trains"),
        ({"strata": [4], "experts": {"kind": "mpo"}, "shared_expert": "add"}, "experts: .*; choose ffn"),
        ({"strata": [4, 4], "stacked": True}, "stacked: .*; set it to false"),
        ({"strata": [4, 4], "gate_scores": "cosine"}, "gate_scores: .*; set it to linear"),
        ({"strata": [4, 4], "experts": {"kind": "mpo"}}, "experts: .*; choose ffn"),
        (
            {"strata": [4, 4], "shared_expert": "cmr"},
            r"shared_expert: cmr .*; set it to none or add \(encoder.layers.1",
        ),
    ],
)
def test_what_cannot_keep_the_function_is_named(moe: dict[str, Any], message: str) -> None:
    problem = preserve_problem(MoeConfig(**moe).blocks(MODEL))
    assert problem is not None and re.search(message, problem)
    assert problem.endswith("or use --method copy, which does not keep the dense function")
