"""What ZeRO-Offload saves and costs: ``python -m tests.benchmarks.offload``.

The same model in three ZeRO-2 engines: without offload, offloaded with PyTorch's Adam, offloaded with DeepSpeed's own
(compiled at its first use). Memory is counted by walking the engines' tensors, by the memory they lie in on a machine
with a GPU: between two steps, at the end of a step's last backward pass and in its update; the most of the three.
Activations are left out, they are the same. Steps are timed interleaved, the update also alone. On a CPU no copy
crosses a bus: the times are those of the additional copies and of the two Adams, not of a GPU that waits for its host.
``--plan`` prints instead what `smoe-ds plan` says of the shipped recipes on V100s.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from tests.benchmarks.held import Held, held
from tests.benchmarks.measure import interleaved, ratio, report
from tests.helpers.environment import ROOT
from tests.helpers.ranks import run_ranks

ENGINES = {"without": (False, True), "torch": (True, True), "native": (True, False)}  # offload, torch_adam
CONFIGS = ROOT / "ds_configs"
VOCAB = 8000
CLOCKS = ("wall", "update", "processor")
DEVICE_KINDS = ("weights", "gradients", "fp32_gradients", "copies", "reduction", "master_weights", "optimizer")


def make_engine(rank: int, world_size: int, setup: dict[str, Any], name: str) -> Any:
    """One of the engines, over a translation model with experts on every rank."""
    from smoe_ds.config.model import ModelConfig
    from smoe_ds.config.moe import MoeConfig
    from smoe_ds.engine.adapter import build_model
    from smoe_ds.engine.build import build_engine

    offload, torch_adam = ENGINES[name]
    width = setup["width"]
    sizes = ModelConfig(d_model=width, d_ffn=4 * width, num_heads=4, encoder_layers=2, decoder_layers=2)
    moe = MoeConfig(strata=[4, 4], ep_size=world_size, capacity_factor=None)
    config = {
        "train_batch_size": 2 * world_size,
        "train_micro_batch_size_per_gpu": 1,
        "steps_per_print": None,
        "gradient_clipping": 1.0,
        "optimizer": {"type": "Adam", "params": {"lr": 1e-4, "weight_decay": 0.0, "torch_adam": torch_adam}},
        "zero_optimization": {
            "stage": 2,
            "reduce_bucket_size": 1_000_000,
            "offload_optimizer": {"device": "cpu" if offload else "none"},
        },
        "fp16": {"enabled": setup["dtype"] == "fp16", "initial_scale_power": 8},
    }
    return build_engine(build_model(sizes, moe, VOCAB, seed=1, rank=rank), config)


def train_step(engine: Any, tokens: torch.Tensor) -> float:
    """A step of two micro-batches; seconds of its update."""
    update = 0.0
    for _ in range(2):
        logits, _ = engine(tokens, tokens)
        engine.backward(torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens.flatten()))
        began = time.perf_counter()
        engine.step()
        update = time.perf_counter() - began
    return update


def most_held(engine: Any, tokens: torch.Tensor) -> Held:
    """Bytes by memory and kind at the moment of a step at which each memory holds most."""
    moments: list[Held] = [held(engine)]
    original, hook = engine.step, engine.basic_optimizer.register_step_pre_hook(lambda *_: moments.append(held(engine)))
    engine.step = lambda: (moments.append(held(engine)), original())
    train_step(engine, tokens)
    hook.remove()
    engine.step = original
    return {
        memory: max((moment[memory] for moment in moments), key=lambda kinds: sum(kinds.values()))
        for memory in ("device", "host")
    }


def measure_rank(rank: int, world_size: int, setup: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Bytes and seconds of each engine on this rank."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)
    tokens = torch.randint(4, VOCAB, (4, setup["tokens"] // 8), generator=torch.Generator().manual_seed(rank))
    engines = {name: make_engine(rank, world_size, setup, name) for name in names}
    updates: dict[str, list[float]] = {name: [] for name in names}

    def step(name: str) -> Callable[[], None]:
        return lambda: updates[name].append(train_step(engines[name], tokens))

    cpu = torch.device("cpu")
    wall = interleaved({name: step(name) for name in names}, setup["repeats"], cpu)
    update = {name: times[1:] for name, times in updates.items()}
    processor = interleaved({name: step(name) for name in names}, setup["repeats"], cpu, clock="cpu")
    return {
        "parameters": sum(p.numel() for p in engines["without"].module.parameters()),
        "held": {name: most_held(engine, tokens) for name, engine in engines.items()},
        "wall": wall,
        "update": update,
        "processor": processor,
    }


def measure(world_size: int, dtype: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one number of ranks, rank 0's figures."""
    setup = {"width": args.width, "dtype": dtype, "tokens": args.tokens, "repeats": args.repeats}
    found = run_ranks(measure_rank, world_size, setup, args.engines, init=True, timeout=args.timeout)[0]
    rows = []
    for name in args.engines:
        sizes = found["held"][name]
        by_kind = {f"device_{kind}": sizes["device"].get(kind, 0) / 2**20 for kind in DEVICE_KINDS}
        rows.append(
            {
                "ranks": world_size,
                "dtype": dtype,
                "offload": name,
                "Mparameters": found["parameters"] / 1e6,
                **by_kind,
                "device_MiB": sum(sizes["device"].values()) / 2**20,
                "host_MiB": sum(sizes["host"].values()) / 2**20,
                "step_ms": 1e3 * statistics.median(found["wall"][name]),
                "update_ms": 1e3 * statistics.median(found["update"][name]),
                **{f"{clock}_over_without": ratio(found[clock], name, "without")["median"] for clock in CLOCKS},
            }
        )
    return rows


def planned(recipes: list[str], ranks: list[int], ep_size: int) -> list[dict[str, Any]]:
    """The planned memory of the recipes on V100s with and without offload [GiB]."""
    from smoe_ds.config import load_run
    from smoe_ds.planning.plan import make_plan

    rows = []
    for recipe in recipes:
        for world_size in ranks:
            for engine in ("v100_fp16_zero1", "v100_fp16_zero2_offload"):
                settings = [f"extends=engine/{engine}.json", f"smoe.moe.ep_size={min(ep_size, world_size)}"]
                plan = make_plan(load_run(CONFIGS / f"{recipe}.json", settings), world_size=world_size)
                states = {k: plan.memory.get(k, 0) for k in ("weights", "gradients", "master_weights", "optimizer")}
                rows.append(
                    {
                        "recipe": recipe,
                        "ranks": world_size,
                        "ep_size": min(ep_size, world_size),
                        "engine": engine,
                        **{f"{kind}_GiB": size / 2**30 for kind, size in states.items()},
                        "device_GiB": plan.memory["total"] / 2**30,
                        "host_GiB": plan.host_memory.get("total", 0) / 2**30,
                    }
                )
    return rows


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.offload", description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dtype", nargs="+", default=["fp32"], help="fp32, fp16 (slow on a CPU)")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), help="without must be among them")
    parser.add_argument("--width", type=int, default=256, help="d_model; d_ffn is four times that")
    parser.add_argument("--tokens", type=int, default=512, help="source and target tokens of a micro-batch of a rank")
    parser.add_argument("--repeats", type=int, default=7, help="rounds that count")
    parser.add_argument("--plan", nargs="+", metavar="RECIPE", help="print plans of these recipes instead")
    parser.add_argument("--ep-size", type=int, default=8, help="of the plans, at most their ranks")
    parser.add_argument("--timeout", type=float, default=500, help="of one row [s]")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    if args.plan:
        rows = planned(args.plan, args.ranks, args.ep_size)
    else:
        rows = [row for ranks in args.ranks for dtype in args.dtype for row in measure(ranks, dtype, args)]
    report("offload", rows, args.json)
    return rows


if __name__ == "__main__":
    main()
