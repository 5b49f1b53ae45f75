"""A block without some of its experts against a loop in which no gate may choose them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.errors import CheckpointError
from smoe_ds.model.feed_forward import moe_factory
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.weights.pruned import placement_of, prune_weights, pruned_factory, remaining_strata, renumbered
from tests.helpers.layers import add_noise, loop_of
from tests.helpers.naive_moe import Settings

MODEL = ModelConfig(d_model=8, d_ffn=12, num_heads=2)


def noisy_block(moe: MoeConfig, seed: int) -> StratifiedMoE:
    """In float64, with weights that all matter, biases of balancing too."""
    block = moe_factory(MODEL, seed)("block", moe).double().eval()
    add_noise(block, 0.7, seed, steps=20)
    return block


def without(block: StratifiedMoE, moe: MoeConfig, removed: list[int]) -> StratifiedMoE:
    """The pruned block, by way of the weights in a file."""
    weights = {f"block.{name}": tensor.clone() for name, tensor in block.state_dict().items()}
    gone = {"block": removed}
    pruned = prune_weights(weights, {"block": placement_of(moe)}, gone)
    assert not [name for name in pruned for e in removed if f".experts.{e}." in name]
    smaller = pruned_factory(MODEL, 1, gone)("block", moe).double().eval()
    inner = renumbered(pruned, {"block": placement_of(moe)}, gone)
    smaller.load_state_dict({name.removeprefix("block."): tensor for name, tensor in inner.items()})
    return smaller


@pytest.mark.parametrize(
    ("settings", "removed"),
    [
        ({"strata": [6]}, [0, 3, 4]),
        ({"strata": [6], "top_k": 1}, [5]),
        ({"strata": [3, 4]}, [1, 3, 6]),
        ({"strata": [2, 2, 4], "combine_weights": "raw"}, [0, 2, 5, 7]),
        ({"strata": [2, 12]}, [1, 2, 4, 5, 6, 8, 11]),
        ({"strata": [3, 3], "stacked": True}, [2, 3]),
        ({"strata": [2, 4], "bias_balancing": 0.01}, [1, 4]),
        ({"strata": [2, 4], "shared_expert": "add"}, [0, 5]),
        ({"strata": [2, 3]}, []),
    ],
)
def test_pruned_block_is_the_loop_that_may_not_choose_them(settings: dict[str, Any], removed: list[int]) -> None:
    moe = MoeConfig(**settings)
    for seed in range(3):
        block = noisy_block(moe, seed)
        x_ND = torch.randn(40, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            y_ND, _ = without(block, moe, removed)(x_ND)
            whole_ND, _ = block(x_ND)
            loop = loop_of(block, Settings(**settings), x_ND, removed=removed)
        torch.testing.assert_close(y_ND, loop.y, rtol=1e-12, atol=1e-12)
        assert torch.allclose(y_ND, whole_ND, rtol=1e-12, atol=1e-12) is (not removed)


def test_what_cannot_be_left_out_is_refused() -> None:
    placement = placement_of(MoeConfig(strata=[2, 3]))
    assert remaining_strata(placement, [1, 3]) == [1, 2]
    with pytest.raises(CheckpointError, match=r"experts \[5\] are to be removed from strata \[2, 3\], which have 5"):
        remaining_strata(placement, [1, 5])
    with pytest.raises(CheckpointError, match=r"a stratum would be empty"):
        remaining_strata(placement, [0, 1])
