"""``smoe.moe.layers``: blocks of different shape, and what is refused about them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smoe_ds.config import load_run
from smoe_ds.config.run import RunConfig
from smoe_ds.errors import ConfigError
from tests.helpers.environment import ROOT


def run_of(layers: dict[str, Any], *settings: str) -> RunConfig:
    chosen = [f"smoe.moe.layers={json.dumps(layers)}", "smoe.moe.capacity_factor=null", *settings]
    return load_run(ROOT / "ds_configs/m4.json", chosen)


def test_entries_change_the_layers_that_they_name() -> None:
    layers = {
        "encoder.6": {"strata": [4, 12]},
        "decoder.*": {"top_k": 1},
        "*.1": {"strata": [2]},
        "encoder.4": {"strata": []},
    }
    smoe = run_of(layers).smoe
    found = {name: (block.strata, block.top_k) for name, block in smoe.moe.blocks(smoe.model).items()}
    assert found == {
        "encoder.layers.0.ffn": ([2], 2),
        "encoder.layers.1.ffn": ([4, 4], 2),
        "encoder.layers.5.ffn": ([4, 12], 2),
        "decoder.layers.0.ffn": ([2], 1),
        "decoder.layers.1.ffn": ([4, 4], 1),
        "decoder.layers.3.ffn": ([4, 4], 1),
        "decoder.layers.5.ffn": ([4, 4], 1),
    }


def test_another_router_takes_only_the_keys_that_it_uses() -> None:
    """What is set for the blocks of all layers; top_k: 4 is no key of a hash router, but the task router has it too."""
    layers = {
        "encoder.2": {"router": {"kind": "hash"}},
        "encoder.4": {"router": {"kind": "task"}},
        "encoder.6": {"router": {"kind": "top_k"}, "jitter": 0.2},
    }
    smoe = run_of(layers, "smoe.moe.top_k=4", "smoe.moe.jitter=0.1", "smoe.moe.capacity_factor=1.5").smoe
    found = {name: (b.top_k, b.jitter, b.capacity_factor) for name, b in smoe.moe.blocks(smoe.model).items()}
    assert list(found.values())[:4] == [(2, 0.0, 1.5), (4, 0.0, 2.0), (4, 0.2, 1.5), (4, 0.1, 1.5)]


@pytest.mark.parametrize(
    ("layers", "settings", "message"),
    [
        ({"encoder.7": {"strata": [4]}}, [], r"encoder\.7 is no layer"),
        ({"encoder.1": {"top_k": 1}}, [], r"encoder\.1 has no experts to change"),
        ({"*.2": {"topk": 1}}, [], r"encoder\.2: topk: unknown key; did you mean top_k\?"),
        ({"*.2": {"router": {"kind": "hash", "tabel": "random"}}}, [], r"encoder\.2: router\.tabel: .*router\.table\?"),
        ({"*.2": {"expert_backend": "loop"}}, [], r"expert_backend is one for all blocks"),
        ({"*.2": {"strata": [3]}}, ["smoe.moe.ep_size=2"], r"2 does not divide the 3 experts"),
        (
            {"*.2": {"strata": [3, 5], "stacked": True}},
            ["smoe.moe.ep_size=2", "zero_optimization.stage=2"],
            r"stacked stratum of 3",
        ),
        (
            {"*.2": {"router": {"kind": "hash"}, "gating_dropout": 0.1, "gating_dropout_mode": "local"}},
            [],
            r"the router hash cannot choose by rank",
        ),
        (
            {
                "encoder.*": {"router": {"kind": "dynamic", "diversity_weight": 0.1}},
                "decoder.*": {"router": {"kind": "dynamic", "diversity_weight": 0.0}},
            },
            [],
            r"diversity_loss with weights 0\.1 and 0",
        ),
        (
            {"*.2": {"router": {"kind": "base"}}, "encoder.*": {"top_k": 4}},
            [],
            r"encoder\.2: top_k: the router base does not use it",
        ),
    ],
)
def test_what_cannot_work_is_named(layers: dict[str, Any], settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_of(layers, *settings)


def test_entries_need_to_work_together_only() -> None:
    smoe = run_of({"*.2": {"strata": [8]}, "encoder.2": {"top_k": 6}}).smoe
    assert smoe.moe.blocks(smoe.model)["encoder.layers.1.ffn"].top_k == 6


def test_experts_of_different_width_can_be_planned() -> None:
    from smoe_ds.planning.plan import make_plan

    widths = "smoe.moe.expert_widths=[9,11,13,15,17,19,21,23]"
    equal, unequal = (make_plan(run_of({}, "smoe.moe.strata=[8]", *more)) for more in ([], [widths]))
    assert equal.parameters["total"] == unequal.parameters["total"]
    assert equal.flops_per_token == unequal.flops_per_token
