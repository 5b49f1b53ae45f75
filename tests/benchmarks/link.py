"""The exchange over a slow link, only rows that are needed against padded ones: ``python -m tests.benchmarks.link``.

Two real gloo ranks in network namespaces of their own (Linux, root, iproute2), joined by a link of the given speed. The
layer ("compact") and DeepSpeed's MoE ("padded") have the same gate and the same sizes; a pass is forward and backward.
Bytes are those that the interfaces of both hosts count, headers included. ``balanced`` drops beyond twice the mean per
choice, ``skewed`` drops nothing and sends the busiest expert three times the mean. Systems run interleaved.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.slow_link import on_two_hosts, run

EXPERTS, RANKS = 8, 2


def rank_main(args: argparse.Namespace) -> None:
    """One rank: seconds and bytes of both hosts for each system and round, printed as JSON by rank 0."""
    import deepspeed
    import torch
    import torch.distributed as dist

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)
    torch.set_num_threads(1)
    found: dict[str, list[tuple[float, int]]] = {}
    for case in ("balanced", "skewed"):
        systems, x, grad = build(case, args)
        for round_number in range(args.repeats + 1):
            for name, system in systems.items():
                dist.barrier()
                began, before = time.perf_counter(), sent_by_both()
                output = system(x.requires_grad_())[0]
                output.backward(grad)
                dist.barrier()
                if round_number:
                    found.setdefault(f"{case} {name}", []).append(
                        (time.perf_counter() - began, sent_by_both() - before)
                    )
    if dist.get_rank() == 0:
        print(json.dumps(found))
    dist.destroy_process_group()


def build(case: str, args: argparse.Namespace) -> tuple[dict[str, Any], Any, Any]:
    """Both systems on this rank, tokens and a gradient."""
    import torch
    import torch.distributed as dist
    from deepspeed.moe.layer import MoE
    from deepspeed.utils import groups

    from smoe_ds.moe import StratifiedMoE
    from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher
    from tests.benchmarks.layer import WIDTHS, make, skewed
    from tests.helpers.layers import change_settings

    d_model, d_ffn = WIDTHS[args.width]
    drop = case == "balanced"
    reference, x, grad = make(args.width, [EXPERTS], args.tokens, torch.device("cpu"), torch.float32)
    if not drop:
        change_settings(reference, capacity_factor=None)
        skewed(reference, x, 3.0)
    gate = reference.gates[0].detach()
    del reference
    capacity, rank = 2.0 if drop else None, dist.get_rank()
    compact = StratifiedMoE(
        d_model, d_ffn, [EXPERTS], capacity_factor=capacity, second_expert="argmax", ep_size=RANKS, ep_rank=rank
    )
    compact.dispatcher = ExpertParallelDispatcher(dist.group.WORLD)
    expert = torch.nn.Sequential(torch.nn.Linear(d_model, d_ffn), torch.nn.ReLU(), torch.nn.Linear(d_ffn, d_model))
    padded = MoE(
        d_model,
        expert,
        num_experts=EXPERTS,
        ep_size=RANKS,
        k=2,
        capacity_factor=1.0,
        min_capacity=0,
        drop_tokens=drop,
        top2_2nd_expert_sampling=False,
    )
    if padded.expert_group_name not in groups._get_expert_parallel_group_dict():
        groups._create_expert_and_data_parallel(RANKS)
    padded.set_deepspeed_parallelism()
    with torch.no_grad():
        compact.gates[0].copy_(gate)
        padded.deepspeed_moe.gate.wg.weight.copy_(gate)
    return {"compact": compact, "padded": padded}, x, grad


def sent_by_both() -> int:
    """Bytes that have left both hosts."""
    import torch
    import torch.distributed as dist

    statistics_of = Path("/sys/class/net") / os.environ["GLOO_SOCKET_IFNAME"] / "statistics"
    total = torch.tensor(int((statistics_of / "tx_bytes").read_text()))
    dist.all_reduce(total)
    return int(total)


def measure(megabits_per_second: float | None, args: argparse.Namespace, argv: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the table for one speed of the link."""
    found = on_two_hosts("tests.benchmarks.link", argv, megabits_per_second, args.timeout)
    rows = []
    for name, rounds in found.items():
        case, system = name.split(" ")
        compact = found[f"{case} compact"]
        sent, least = (statistics.median(count for _, count in each) for each in (rounds, compact))
        rows.append(
            {
                "mbit_per_s": megabits_per_second or "unlimited",
                "case": case,
                "system": system,
                "MB_sent": sent / 1e6,
                "of_compact": sent / least,
                "pass_ms": 1e3 * statistics.median(seconds for seconds, _ in rounds),
                "time_of_compact": statistics.median(a / b for (a, _), (b, _) in zip(rounds, compact, strict=True)),
            }
        )
    return rows


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.link", description=__doc__)
    parser.add_argument("--width", choices=["m4", "m15"], default="m4")
    parser.add_argument("--tokens", type=int, default=1024, help="tokens per rank")
    return run(
        parser,
        argv,
        speeds=(100, 1000),
        repeats=5,
        rank_main=rank_main,
        measure=measure,
        title="exchange over a slow link",
    )


if __name__ == "__main__":
    main()
