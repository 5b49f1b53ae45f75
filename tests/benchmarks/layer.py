"""Time and memory of the layer against the floor and against DeepSpeed's MoE: ``python -m tests.benchmarks.layer``.

The floor is what cannot be saved: the same experts applied to ready rows, as many as the layer gave them, forward and
backward. DeepSpeed's layer has the same experts, gate, choices and capacity, and its input is normalised already
(it has no LayerNorm). All three run interleaved in one process.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.stats import BlockStats
from smoe_ds.parallel.ports import free_port
from tests.benchmarks.measure import interleaved, parse_timing, peak_memory, ratio, report
from tests.helpers.layers import change_settings

WIDTHS = {"m4": (512, 2048), "m15": (1024, 4096)}
SYSTEMS = {
    "m4": [[8], [4, 4], [2, 2, 2, 2]],
    "m15": [[16], [4, 12], [4, 4, 4, 4]],
}


def forward_backward(layer: torch.nn.Module, x: Tensor, grad: Tensor) -> Any:
    """One training pass of a layer that returns (output, ...), gradients into ready buffers."""
    x = x.detach().requires_grad_()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        parameter.grad.zero_()
    out, *rest = layer(x)
    out.backward(grad)
    return rest[0]


def allocate_gradients(module: torch.nn.Module) -> None:
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)


def kept_rows(layer: StratifiedMoE, stats: BlockStats) -> list[tuple[int, int]]:
    """(expert, rows) of each stratum and expert."""
    rows = []
    for i, stratum in enumerate(stats.strata):
        wanted = stratum.requested_KE.sum(0).tolist()
        capacity = max(wanted)
        if layer.block.capacity_factor is not None:
            capacity = -int(-layer.block.capacity_factor * stratum.num_tokens // len(wanted))
        experts = layer.placement.visible_experts(i)
        rows += [(expert, min(count, capacity)) for expert, count in zip(experts, wanted, strict=True)]
    return rows


def floor(layer: StratifiedMoE, rows: list[tuple[int, int]], x: Tensor) -> Callable[[], None]:
    """The experts alone, on ready rows."""
    work = [(layer.experts[str(e)], torch.randn(n, x.shape[1], device=x.device, dtype=x.dtype)) for e, n in rows if n]
    grads = [torch.randn_like(inputs) for _, inputs in work]

    def run() -> None:
        for parameter in layer.experts.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()
        outputs = [expert(inputs.detach().requires_grad_()) for expert, inputs in work]
        torch.autograd.backward(outputs, grads)

    return run


def deepspeed_twin(layer: StratifiedMoE, *, drop: bool) -> torch.nn.Module:
    """DeepSpeed's MoE with the weights of a layer of one stratum."""
    import deepspeed
    from deepspeed.moe.layer import MoE

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not torch.distributed.is_initialized():
        device = next(layer.parameters()).device
        deepspeed.init_distributed(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"tcp://127.0.0.1:{free_port()}",
            rank=0,
            world_size=1,
            auto_mpi_discovery=False,
            verbose=False,
        )
    experts = list(layer.experts.values())
    twin = MoE(
        layer.d_model,
        copy.deepcopy(experts[0]),
        num_experts=len(experts),
        ep_size=1,
        k=layer.block.top_k,
        capacity_factor=1.0,
        min_capacity=0,
        drop_tokens=drop,
        top2_2nd_expert_sampling=False,
    ).to(experts[0].w1)
    twin.set_deepspeed_parallelism()
    with torch.no_grad():
        twin.deepspeed_moe.gate.wg.weight.copy_(layer.gates[0])
        for theirs, ours in zip(twin.deepspeed_moe.experts.deepspeed_experts, experts, strict=True):
            theirs.load_state_dict(ours.state_dict())
    return twin


def skewed(layer: StratifiedMoE, x: Tensor, skew: float) -> float:
    """Turn the gate so that the busiest expert gets ``skew`` times the mean rows; returns the skew reached."""
    direction = torch.nn.functional.normalize(x.float().mean(0), dim=0)
    original = layer.gates[0].detach().clone()
    low, high, reached = 0.0, 8.0, 0.0
    for _ in range(20):
        middle = (low + high) / 2
        with torch.no_grad():
            layer.gates[0].copy_(original)
            layer.gates[0][0] += middle * direction
            rows = layer(x)[1].strata[0].requested_KE.sum(0)
        reached = (rows.max() / rows.float().mean()).item()
        low, high = (middle, high) if reached < skew else (low, middle)
    return reached


def make(
    width: str, strata: list[int], tokens: int, device: torch.device, dtype: torch.dtype, backend: str = "auto"
) -> Any:
    """Layer, input of LayerNormed tokens with a common direction, output gradient."""
    d_model, d_ffn = WIDTHS[width]
    torch.manual_seed(0)
    settings = {"second_expert": "argmax", "expert_backend": backend, "expert_init": "xavier"}
    layer = StratifiedMoE(d_model, d_ffn, strata, **settings).to(device, dtype)
    x = torch.nn.functional.layer_norm(torch.randn(tokens, d_model) + torch.randn(d_model), (d_model,))
    common = torch.nn.functional.normalize(x.mean(0), dim=0)
    with torch.no_grad():  # no expert is favoured by the common direction
        for gate in layer.gates:
            gate -= (gate.float() @ common.to(device)).unsqueeze(1).to(dtype) * common.to(device, dtype)
    x = x.to(device, dtype)
    allocate_gradients(layer)
    return layer, x, torch.randn_like(x)


def measure(case: str, width: str, strata: list[int], tokens: int, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    layer, x, grad = make(width, strata, tokens, device, dtype, args.backend)
    reached = 0.0
    if case == "skewed":
        change_settings(layer, capacity_factor=None)
        reached = skewed(layer, x, 3.0)
    stats = forward_backward(layer, x, grad)
    candidates: dict[str, Callable[[], object]] = {
        "layer": lambda: forward_backward(layer, x, grad),
        "floor": floor(layer, kept_rows(layer, stats), x),
    }
    if len(strata) == 1:
        twin = deepspeed_twin(layer, drop=case == "balanced")
        allocate_gradients(twin)
        candidates["deepspeed"] = lambda: forward_backward(twin, x, grad)
    times = interleaved(candidates, args.repeats, device, args.clock)
    memory = {name: peak_memory(run, device) for name, run in candidates.items()}
    over_floor = ratio(times, "layer", "floor")
    has_peer = "deepspeed" in times
    peer = ratio(times, "layer", "deepspeed") if has_peer else {}
    return {
        "case": case,
        "width": width,
        "strata": "-".join(map(str, strata)),
        "tokens": tokens,
        "rows": sum(n for _, n in kept_rows(layer, stats)),
        "skew": reached or _skew(stats),
        "layer_ms": 1e3 * statistics.median(times["layer"]),
        "floor_ms": 1e3 * statistics.median(times["floor"]),
        "deepspeed_ms": 1e3 * statistics.median(times["deepspeed"]) if has_peer else "-",
        "over_floor": over_floor["median"],
        "quartiles": f"{over_floor['q1']:.2f}-{over_floor['q3']:.2f}",
        "over_deepspeed": peer.get("median", "-"),
        "layer_mib": memory["layer"] / 2**20,
        "floor_mib": memory["floor"] / 2**20,
        "memory_over_deepspeed": memory["layer"] / memory["deepspeed"] if has_peer else "-",
    }


def _skew(stats: BlockStats) -> float:
    rows = stats.strata[0].requested_KE.sum(0).float()
    return (rows.max() / rows.mean()).item()


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.layer", description=__doc__)
    parser.add_argument("--width", choices=[*WIDTHS, "all"], default="all", help="widths of a recipe")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096, 16384], help="tokens per pass")
    parser.add_argument("--strata", help="experts per stratum, e.g. 4,4; default: the systems of the recipe")
    parser.add_argument("--backend", default="auto", help="the layer's expert_backend")
    args = parse_timing(parser, argv, repeats=9)
    rows = []
    for width in WIDTHS if args.width == "all" else [args.width]:
        for tokens in args.tokens:
            for strata in [[int(n) for n in args.strata.split(",")]] if args.strata else SYSTEMS[width]:
                for case in ("balanced", "skewed") if len(strata) == 1 else ("balanced",):
                    rows.append(measure(case, width, strata, tokens, args))
                    print(rows[-1], flush=True)
    report(f"layer, {args.dtype} on {args.device}", rows, args.json)
    return rows


if __name__ == "__main__":
    main()
