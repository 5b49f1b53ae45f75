"""Merged experts: copies in any order of units give the expert back, others the mean under the best matching."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.errors import CheckpointError
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.weights.merged import Group, in_order_of, merge_weights, merged_expert
from smoe_ds.weights.pruned import placement_of, prune_weights, renumbered
from tests.helpers.layers import noisy_layer

D, F = 8, 12


def expert(seed: int, width: int = F, activation: str = "relu") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"w1": (width, D), "b1": (width,), "w2": (D, width), "b2": (D,)}
    if activation == "swiglu":
        shapes |= {"w3": (width, D), "b3": (width,)}
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def shuffled(whole: dict[str, Tensor], order: Tensor) -> dict[str, Tensor]:
    """The same expert, its hidden units in another order."""
    return {
        name: weight if name == "b2" else weight[:, order] if name == "w2" else weight[order]
        for name, weight in whole.items()
    }


@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_copies_in_any_order_are_the_expert(activation: str) -> None:
    whole = expert(1, activation=activation)
    copies = [shuffled(whole, torch.randperm(F, generator=torch.Generator().manual_seed(n))) for n in range(3)]
    merged = merged_expert([whole, *copies], [0.4, 0.3, 0.2, 0.1])
    assert set(merged) == set(whole)
    for name, weight in merged.items():
        torch.testing.assert_close(weight, whole[name], rtol=1e-14, atol=1e-14)


def test_no_other_order_is_nearer() -> None:
    for seed in range(5):
        first, other = expert(seed, 5), expert(seed + 50, 5)

        def distance(ordered: dict[str, Tensor], first: dict[str, Tensor] = first) -> float:
            return float(sum((first[name] - ordered[name]).square().sum() for name in first))

        least = min(distance(shuffled(other, torch.tensor(order))) for order in itertools.permutations(range(5)))
        assert distance(in_order_of(first, other)) == pytest.approx(least, rel=1e-12)


def merged_layer(layer: StratifiedMoE, groups: list[Group]) -> StratifiedMoE:
    """The smaller layer, by way of the weights in a file."""
    placements = {"block": placement_of(layer.block)}
    removed = {"block": [e for group in groups for e in group.experts[1:]]}
    weights = {f"block.{name}": tensor.clone() for name, tensor in layer.state_dict().items()}
    merged = prune_weights(merge_weights(weights, placements, {"block": groups}), placements, removed)
    inner = renumbered(merged, placements, removed)
    left = [
        sum(layer.placement.stratum_of(e) == i for e in range(layer.placement.num_experts) if e not in removed["block"])
        for i in range(len(layer.block.strata))
    ]
    kept = {key: getattr(layer.block, key) for key in BlockSettings.model_fields if key not in ("strata", "top_k")}
    smaller = StratifiedMoE(D, F, left, layer.block.top_k, **kept).double().eval()
    smaller.load_state_dict({name.removeprefix("block."): tensor for name, tensor in inner.items()})
    return smaller


@pytest.mark.parametrize(
    "settings",
    [{"combine_weights": "ones"}, {"combine_weights": "ones", "stacked": True}],
)
def test_copies_with_equal_gate_rows_leave_a_layer_with_one_choice_as_it_was(settings: dict[str, Any]) -> None:
    layer = noisy_layer(D, F, [3, 4], 1, **settings).eval()
    groups = [Group((0, 2), (0.75, 0.25)), Group((4, 3, 6), (1.0, 0.0, 0.0))]
    weights = layer.state_dict()
    for group in groups:
        first = group.experts[0]
        for e in group.experts[1:]:
            order = torch.randperm(F, generator=torch.Generator().manual_seed(e))
            own = {name: weights[f"experts.{first}.{name}"] for name in ("w1", "b1", "w2", "b2")}
            for name, weight in shuffled(own, order).items():
                weights[f"experts.{e}.{name}"].copy_(weight)
            for name in [name for name in weights if name.startswith(("gates.", "balance_steps_"))]:
                visible = list(layer.placement.visible_experts(int(name[-1])))
                if first in visible:
                    weights[name][visible.index(e)] = weights[name][visible.index(first)]
    x_ND = torch.randn(60, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, stats = layer(x_ND)
        found, smaller = merged_layer(layer, groups)(x_ND)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    assert torch.equal(stats.requested_capacity, smaller.requested_capacity)
    assert smaller.strata[0].requested_KE.shape[1] == (2 if settings.get("stacked") else 4)


def test_rows_are_means_by_share_in_every_gate_that_sees_the_group() -> None:
    layer = noisy_layer(D, F, [2, 3], bias_balancing=0.01)
    before = {f"block.{name}": tensor.clone() for name, tensor in layer.state_dict().items()}
    groups = [Group((4, 2), (0.75, 0.25)), Group((1, 0), (0.5, 0.5))]
    after = merge_weights(before, {"block": placement_of(layer.block)}, {"block": groups})
    for gate, first in ((0, 0), (1, 2)):
        rows, old = after[f"block.gates.{gate}"], before[f"block.gates.{gate}"]
        steps, old_steps = after[f"block.balance_steps_{gate}"], before[f"block.balance_steps_{gate}"]
        torch.testing.assert_close(rows[4 - first], 0.75 * old[4 - first] + 0.25 * old[2 - first])
        assert steps[4 - first] == round(0.75 * int(old_steps[4 - first]) + 0.25 * int(old_steps[2 - first]))
        assert torch.equal(rows[3 - first], old[3 - first])
    torch.testing.assert_close(after["block.gates.0"][1], before["block.gates.0"][:2].mean(0))
    unlike = [name for name in before if not torch.equal(before[name], after[name])]
    assert {name.split(".")[2] for name in unlike if ".experts." in name} == {"4", "1"}


def test_other_experts_are_refused() -> None:
    weights = {f"block.experts.{e}.centre": torch.ones(2) for e in range(2)}
    with pytest.raises(CheckpointError, match=r"^block\.experts\.0: is no plain feed-forward network"):
        merge_weights(weights, {}, {"block": [Group((0, 1), (0.5, 0.5))]})
