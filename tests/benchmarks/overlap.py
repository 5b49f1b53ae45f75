"""Time of a pass over a slow network with the exchange cut into chunks: ``python -m tests.benchmarks.overlap``.

Two real gloo ranks in network namespaces of their own (Linux, root, iproute2), joined by a link of the given speed. The
layer is the same for every number of chunks and all of them run interleaved; a pass is forward and backward. ``alone``
is the time of the same pass with all experts on the rank: the rest is the exchange, as far as it is not hidden.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.slow_link import on_two_hosts, run

WIDTHS = {"m4": (512, 2048), "m15": (1024, 4096)}


def rank_main(args: argparse.Namespace) -> None:
    """One rank: seconds per round for each number of chunks, printed as JSON by rank 0."""
    import torch
    import torch.distributed as dist

    from smoe_ds.moe import StratifiedMoE
    from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    d_model, d_ffn = WIDTHS[args.width]
    strata = [int(n) for n in args.strata.split(",")]
    x = torch.randn(args.tokens, d_model)
    grad = torch.randn_like(x)
    passes: dict[str, Any] = {}
    for chunks in args.chunks:
        layer = StratifiedMoE(d_model, d_ffn, strata, ep_size=2, ep_rank=rank, exchange_chunks=chunks)
        layer.dispatcher = ExpertParallelDispatcher(dist.group.WORLD, chunks)
        passes[str(chunks)] = layer
    # As many experts as fall to a rank, and so as many rows an expert as with both ranks' tokens.
    passes["alone"] = StratifiedMoE(d_model, d_ffn, [max(1, n // 2) for n in strata], expert_backend="loop")
    times: dict[str, list[float]] = {name: [] for name in passes}
    for round_number in range(args.repeats + 1):
        for name, layer in passes.items():
            dist.barrier()
            torch.manual_seed(1000 * round_number + rank)
            began = time.perf_counter()
            layer(x.requires_grad_())[0].backward(grad)
            if name != "alone":
                dist.barrier()
            if round_number:
                times[name].append(time.perf_counter() - began)
    if rank == 0:
        print(json.dumps(times))
    dist.destroy_process_group()


def measure(megabits_per_second: float | None, args: argparse.Namespace, argv: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the table for one speed of the link."""
    times = on_two_hosts("tests.benchmarks.overlap", argv, megabits_per_second, args.timeout)
    alone = statistics.median(times["alone"])
    first = str(args.chunks[0])
    return [
        {
            "mbit_per_s": megabits_per_second or "unlimited",
            "strata": args.strata.replace(",", "-"),
            "tokens": args.tokens,
            "chunks": chunks,
            "pass_ms": 1e3 * statistics.median(times[str(chunks)]),
            "alone_ms": 1e3 * alone,
            f"over_{first}": statistics.median([a / b for a, b in zip(times[str(chunks)], times[first], strict=True)]),
        }
        for chunks in args.chunks
    ]


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.overlap", description=__doc__)
    parser.add_argument("--width", choices=list(WIDTHS), default="m4")
    parser.add_argument("--strata", default="8", help="experts per stratum, e.g. 4,4")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens per rank")
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 2, 4], help="numbers of chunks to compare")
    return run(
        parser,
        argv,
        speeds=(100, 300, 1000, 0),
        repeats=7,
        rank_main=rank_main,
        measure=measure,
        title="exchange in chunks over a slow link",
    )


if __name__ == "__main__":
    main()
