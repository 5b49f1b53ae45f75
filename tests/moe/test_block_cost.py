"""What a block says it costs, against the layer itself: parameters, FLOPs, bytes kept; of every system and backend."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.block_cost import BlockSizes, stratified_block
from smoe_ds.moe.cost import FP32, Cost, Storage
from smoe_ds.moe.experts_grouped import grouped_mm_problem
from smoe_ds.moe.loads import stratum_loads
from smoe_ds.moe.placement import Placement
from tests.helpers.counted import counted_bytes, counted_flops, counted_loads

D, F, TOKENS = 128, 192, 768
SYSTEMS: dict[str, dict[str, Any]] = {
    "vanilla": {"strata": [4]},
    "switch": {"strata": [4], "top_k": 1},
    "eom": {"strata": [4], "expert_output_masking": 0.1},
    "smoe": {"strata": [2, 4]},
    "three": {"strata": [2, 2, 4], "top_k": 3},
    "stacked": {"strata": [3, 5], "stacked": True},
    "add": {"strata": [2, 4], "shared_expert": "add"},
    "cmr": {"strata": [4], "shared_expert": "cmr"},
    "gelu": {"strata": [2, 4], "activation": "gelu"},
    "swiglu": {"strata": [2, 4], "activation": "swiglu", "shared_expert": "add"},
    "released": {"strata": [2, 4], "norm": "released"},
    "jitter": {"strata": [2, 4], "jitter": 0.1},
}
BACKENDS = ("loop", "lean", "grouped")
PRECISIONS = {
    torch.float32: Storage(4, True, fused_dropout=False),
    torch.bfloat16: Storage(2, True, fused_dropout=False),
}


def layer_of(system: str, backend: str = "lean", dtype: torch.dtype = torch.float32, **more: Any) -> StratifiedMoE:
    torch.manual_seed(0)
    settings = {"dropout": 0.1, "capacity_factor": None, **SYSTEMS[system], **more}
    if backend == "grouped" and (problem := grouped_mm_problem(torch.device("cpu"), dtype)):
        pytest.skip(problem)
    layer = StratifiedMoE(D, F, settings.pop("strata"), expert_backend=backend, **settings)
    for gate in layer.gates:
        torch.nn.init.orthogonal_(gate)  # on random tokens, every expert is chosen about as often
    return layer.to(dtype)


def sizes_of(system: str, backend: str = "lean") -> BlockSizes:
    settings = SYSTEMS[system]
    return BlockSizes(
        D,
        F,
        Placement(tuple(settings["strata"]), 1, settings.get("stacked", False)),
        settings.get("top_k", 2),
        settings.get("activation", "relu"),
        settings.get("shared_expert", "none"),
        output_norm=settings.get("norm") == "released",
        jitter="jitter" in settings,
        backend=backend,
    )


def uniform(sizes: BlockSizes, storage: Storage = FP32) -> Cost:
    return stratified_block(sizes, stratum_loads(sizes.placement, TOKENS, sizes.top_k), storage)


def parameters_by_kind(layer: StratifiedMoE) -> Counter[str]:
    kinds = {"norms": "norms", "output_norm": "norms", "cmr_gate": "gates", "shared": "shared_experts"}
    found: Counter[str] = Counter()
    for name, parameter in layer.named_parameters():
        part = name.split(".")[0]
        found[kinds.get(part, part)] += parameter.numel()
    return found


@pytest.mark.parametrize("system", SYSTEMS)
def test_parameters_are_those_of_the_layer(system: str) -> None:
    layer, cost = layer_of(system), uniform(sizes_of(system))
    assert cost.parameters == parameters_by_kind(layer)
    weights = {
        name: p.numel() for name, p in layer.named_parameters() if p.dim() == 2 and name.split(".")[-1].startswith("w")
    }
    assert cost.matrices == sum(number for name, number in weights.items() if "gate" not in name)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_flops_are_those_of_the_layer(system: str, backend: str) -> None:
    """Exact for the tokens and rows that the layer counts, some of which find no room; near for uniform routing."""
    layer, sizes = layer_of(system, backend, capacity_factor=1.0), sizes_of(system, backend)
    x, found = torch.randn(TOKENS, D), []
    flops = counted_flops(lambda: found.append(layer(x)[1]))
    (stats,) = found
    assert sum(stratum.num_dropped for stratum in stats.strata) > 0
    cost = stratified_block(sizes, counted_loads(stats, sizes.top_k))
    assert cost.flops_of() == flops
    assert cost.rows == sum(load.rows for load in counted_loads(stats, sizes.top_k))
    layer.eval()  # drops nothing
    assert uniform(sizes).flops_of() == pytest.approx(counted_flops(lambda: layer(x)), rel=0.05)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_saved_bytes_are_what_autograd_keeps(system: str, backend: str, dtype: torch.dtype) -> None:
    layer, sizes, storage = layer_of(system, backend, dtype), sizes_of(system, backend), PRECISIONS[dtype]
    x = torch.randn(TOKENS, D, dtype=dtype, requires_grad=True)
    kept, (_, stats) = counted_bytes(layer, lambda: layer(x * 1))
    assert stratified_block(sizes, counted_loads(stats, sizes.top_k), storage).saved_bytes == pytest.approx(
        kept, rel=0.05
    )
    assert uniform(sizes, storage).saved_bytes == pytest.approx(kept, rel=0.1)


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("smoe", {"backend": "loop"}),
    ("gelu", {"backend": "grouped"}),
    ("swiglu", {"backend": "loop"}),
    ("vanilla", {"top_k": 1}),
    ("smoe", {"activation": "swiglu"}),
    ("add", {"shared_expert": "none"}),
    ("cmr", {"shared_expert": "add"}),
    ("stacked", {"placement": Placement((3, 5))}),
    ("released", {"output_norm": False}),
    ("jitter", {"jitter": False}),
]


@pytest.mark.parametrize(("system", "wrong"), WRONG, ids=str)
def test_the_cost_of_another_block_is_told_apart(system: str, wrong: dict[str, Any]) -> None:
    """What these tests compare with is no accident: any setting taken wrongly misses the tolerance."""
    layer, sizes = layer_of(system), replace(sizes_of(system), **wrong)
    x = torch.randn(TOKENS, D, requires_grad=True)
    kept, (_, stats) = counted_bytes(layer, lambda: layer(x * 1))
    cost = stratified_block(sizes, counted_loads(stats, sizes.top_k), PRECISIONS[torch.float32])
    assert cost.saved_bytes != pytest.approx(kept, rel=0.05)


def test_costs_add_up() -> None:
    one = Cost({"gates": 1}, 2, {"gates": 3.0}, 4, 5, 6, 7, 8)
    other = Cost({"gates": 1, "norms": 1}, 1, {"experts": 1.0}, 1, 1, 1, 1, 9)
    both = Cost({"gates": 2, "norms": 1}, 3, {"gates": 3.0, "experts": 1.0}, 5, 6, 7, 8, 9)
    assert one + other == both
    assert (both.flops_of(), both.flops_of("gates"), both.flops_of("norms")) == (4, 3, 0)


def test_rows_on_their_way_are_those_of_the_first_stratum() -> None:
    sizes = replace(sizes_of("smoe"), placement=Placement((2, 4), 2), backend="loop")
    cost = uniform(sizes, Storage(2))
    row_bytes, rows = 2 * D, 2 * TOKENS
    assert cost.temporary_bytes == 2 * rows / 2 * row_bytes  # half of them go, as many come
    assert cost.exchanged_bytes == pytest.approx(4 * (rows / 2) * (1 + 2 / 6) * row_bytes)
