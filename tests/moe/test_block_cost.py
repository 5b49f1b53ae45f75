"""What a block says it costs, against the layer itself: parameters, FLOPs, bytes kept; of every system and backend."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.experts import Adapters, Ffn, Mpo
from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.block_cost import BlockSizes, stratified_block
from smoe_ds.moe.cost import FP32, Cost, Storage
from smoe_ds.moe.experts_grouped import grouped_mm_problem
from smoe_ds.moe.routers.softmax import SoftmaxRouter
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
    "residual": {"strata": [2, 4], "shared_expert": "residual"},
    "fom": {"strata": [2, 4], "final_output_masking": 0.1, "shared_expert": "add"},
    "heads": {"strata": [2, 4], "heads": 4},
    "heads of a width": {"strata": [2, 4], "heads": 2, "expert_ffn": 96, "shared_expert": "cmr", "activation": "gelu"},
    "heads, swiglu": {"strata": [4], "heads": 4, "activation": "swiglu"},
    "gelu": {"strata": [2, 4], "activation": "gelu"},
    "swiglu": {"strata": [2, 4], "activation": "swiglu", "shared_expert": "add"},
    "released": {"strata": [2, 4], "norm": "released"},
    "jitter": {"strata": [2, 4], "jitter": 0.1},
    "adapters": {"strata": [2, 4], "experts": {"kind": "adapters", "rank": 8}},
    "adapters_plain": {"strata": [4], "experts": {"kind": "adapters", "dropout": 0.0}, "shared_expert": "add"},
    "mpo": {"strata": [2, 4], "experts": {"kind": "mpo"}},
    "mpo_short": {"strata": [4], "experts": {"kind": "mpo", "bond": 6}, "activation": "swiglu"},
    "adapters_heads": {"strata": [2, 4], "experts": {"kind": "adapters", "rank": 8}, "heads": 2, "expert_ffn": 96},
    "mpo_heads": {"strata": [4], "experts": {"kind": "mpo"}, "heads": 2, "expert_ffn": 64, "shared_expert": "residual"},
    "adapters_narrow": {"strata": [2, 4], "experts": {"kind": "adapters"}, "expert_ffn": 64},
    "mpo_narrow": {"strata": [2, 4], "experts": {"kind": "mpo"}, "expert_ffn": 64, "shared_expert": "add"},
    "moefied": {"strata": [6], "top_k": 3, "combine_weights": "ones", "expert_ffn": 32},
    "cosine": {"strata": [2, 4], "gate_scores": "cosine", "gate_width": 16},
    "top_p": {"strata": [2, 4], "router": {"kind": "top_p", "threshold": 1.5, "max_experts": 2}},
}
MIXING = ("cmr_gate", "coefficient", "mixtures")
BACKENDS = ("loop", "lean", "grouped")
COMMON = ("common", "shared")
"""What all tokens pass, or all experts are made of."""
PRECISIONS = {
    torch.float32: Storage(4, True, fused_dropout=False),
    torch.bfloat16: Storage(2, True, fused_dropout=False),
}


def layer_of(system: str, backend: str = "lean", dtype: torch.dtype = torch.float32, **more: Any) -> StratifiedMoE:
    torch.manual_seed(0)
    settings = {"dropout": 0.1, "capacity_factor": None, **SYSTEMS[system], **more}
    if backend == "grouped" and (problem := grouped_mm_problem(torch.device("cpu"), dtype)):
        pytest.skip(problem)
    if system.startswith("adapters"):
        backend = "auto"  # others are refused
    layer = StratifiedMoE(D, F, settings.pop("strata"), expert_backend=backend, **settings)
    directions = [router.cosine.directions for router in routers_of(layer) if router.cosine is not None]
    for weight in [*layer.gates, *directions]:
        torch.nn.init.orthogonal_(weight)  # on random tokens, every expert is chosen about as often
    return layer.to(dtype)


def routers_of(layer: StratifiedMoE) -> list[SoftmaxRouter]:
    return [mixture.router for mixture in layer.mixtures]


def sizes_of(system: str, backend: str = "lean") -> BlockSizes:
    settings = dict(SYSTEMS[system])
    activation = settings.pop("activation", "relu")
    block = BlockSettings(**settings)
    return BlockSizes(D, block.inner_width(F), block, activation=activation, backend=backend)


def changed(sizes: BlockSizes, **changes: Any) -> BlockSizes:
    """The sizes with some of their own fields, or of the block's, changed."""
    own = {name: value for name, value in changes.items() if name not in BlockSettings.model_fields}
    block = sizes.block.model_copy(update={name: changes[name] for name in changes if name not in own})
    return replace(sizes, block=block, **own)


def uniform(sizes: BlockSizes, storage: Storage = FP32) -> Cost:
    return stratified_block(sizes, sizes.loads(TOKENS), storage)


def parameters_by_kind(layer: StratifiedMoE) -> Counter[str]:
    kinds = {"output_norm": "norms"} | dict.fromkeys(MIXING, "gates") | dict.fromkeys(COMMON, "shared_experts")
    found: Counter[str] = Counter()
    for name, parameter in layer.named_parameters():
        part = name.split(".")[0]
        if part == "heads":
            part = "norms" if ".norm." in name else "feed_forward"
        found[kinds.get(part, part)] += parameter.numel()
    return found


@pytest.mark.parametrize("system", SYSTEMS)
def test_parameters_are_those_of_the_layer(system: str) -> None:
    layer, cost = layer_of(system), uniform(sizes_of(system))
    assert cost.parameters == parameters_by_kind(layer)
    assert sizes_of(system).parameters_on(0) == cost.parameters["experts"]
    weights = {
        name: p.numel()
        for name, p in layer.named_parameters()
        if p.dim() >= 2 and name.split(".")[-1].startswith(("w", "down", "up"))
    }
    assert cost.matrices == sum(number for name, number in weights.items() if not name.startswith(MIXING))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_flops_are_those_of_the_layer(system: str, backend: str) -> None:
    """Exact for the tokens and rows that the layer counts, some of which find no room; near for uniform routing."""
    layer, sizes = layer_of(system, backend, capacity_factor=1.0), sizes_of(system, backend)
    x, found = torch.randn(TOKENS, D), []
    flops = counted_flops(lambda: found.append(layer(x)[1]))
    (stats,) = found
    assert sum(stratum.num_dropped for stratum in stats.strata) > 0
    cost = stratified_block(sizes, counted_loads(stats, sizes.block.top_k))
    assert cost.flops_of() == flops
    assert cost.rows == sum(load.rows for load in counted_loads(stats, sizes.block.top_k))
    layer.eval()  # drops nothing
    assert uniform(sizes).flops_of() == pytest.approx(counted_flops(lambda: layer(x)), rel=0.05)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_saved_bytes_are_what_autograd_keeps(system: str, backend: str, dtype: torch.dtype) -> None:
    layer, sizes, storage = layer_of(system, backend, dtype), sizes_of(system, backend), PRECISIONS[dtype]
    x = torch.randn(TOKENS, D, dtype=dtype, requires_grad=True)
    kept, (_, stats) = counted_bytes(layer, lambda: layer(x * 1))
    assert stratified_block(sizes, counted_loads(stats, sizes.block.top_k), storage).saved_bytes == pytest.approx(
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
    ("residual", {"shared_expert": "add"}),
    ("heads", {"heads": 2}),
    ("heads", {"expert_ffn": F}),
    ("stacked", {"stacked": False}),
    ("released", {"norm": "paper"}),
    ("jitter", {"jitter": 0.0}),
    ("adapters", {"experts": Ffn()}),
    ("adapters", {"experts": Adapters(rank=8, dropout=0.0)}),
    ("mpo", {"experts": Ffn()}),
    ("mpo", {"experts": Mpo(bond=6)}),
    ("mpo_short", {"experts": Mpo()}),
    ("cosine", {"gate_width": 128}),
]


@pytest.mark.parametrize(("system", "wrong"), WRONG, ids=str)
def test_the_cost_of_another_block_is_told_apart(system: str, wrong: dict[str, Any]) -> None:
    """What these tests compare with is no accident: any setting taken wrongly misses the tolerance."""
    layer, sizes = layer_of(system), changed(sizes_of(system), **wrong)
    x = torch.randn(TOKENS, D, requires_grad=True)
    kept, (_, stats) = counted_bytes(layer, lambda: layer(x * 1))
    cost = stratified_block(sizes, counted_loads(stats, sizes.block.top_k), PRECISIONS[torch.float32])
    assert cost.saved_bytes != pytest.approx(kept, rel=0.05)


def test_costs_add_up() -> None:
    one = Cost({"gates": 1}, 2, {"gates": 3.0}, 4, 5, 6, 7, 8)
    other = Cost({"gates": 1, "norms": 1}, 1, {"experts": 1.0}, 1, 1, 1, 1, 9)
    both = Cost({"gates": 2, "norms": 1}, 3, {"gates": 3.0, "experts": 1.0}, 5, 6, 7, 8, 9)
    assert one + other == both
    assert (both.flops_of(), both.flops_of("gates"), both.flops_of("norms")) == (4, 3, 0)


def test_rows_on_their_way_are_those_of_the_first_stratum() -> None:
    sizes = replace(sizes_of("smoe"), ep_size=2, backend="loop")
    cost = uniform(sizes, Storage(2))
    row_bytes, rows = 2 * D, 2 * TOKENS
    assert cost.temporary_bytes == 2 * rows / 2 * row_bytes  # half of them go, as many come
    assert cost.exchanged_bytes == pytest.approx(4 * (rows / 2) * (1 + 2 / 6) * row_bytes)
