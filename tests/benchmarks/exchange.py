"""Bytes and messages of one training pass at ``ep_size`` 2 and 4: ``python -m tests.benchmarks.exchange``.

Real gloo ranks on this machine; every ``all_to_all_single`` is counted. Needed are the rows whose expert is on another
rank, once per direction in forward and in backward. DeepSpeed's layer exchanges all of its padded
rows, its own among them.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import torch.distributed as dist

from tests.benchmarks.measure import report
from tests.helpers.ranks import run_ranks

D, F, EXPERTS = 64, 128, 8


class Counter:
    """Counts what this rank sends, its own share left out and, apart, in it."""

    def __init__(self) -> None:
        self.messages = self.rows = self.counts = self.own = 0

    def __enter__(self) -> Counter:
        self._original = dist.all_to_all_single
        dist.all_to_all_single = self._count  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        dist.all_to_all_single = self._original

    def _count(self, output: Any, input: Any, out_splits: Any = None, in_splits: Any = None, **options: Any) -> Any:
        rank, rows = dist.get_rank(), input
        per_rank = (
            in_splits
            or options.get("input_split_sizes")
            or [rows.shape[0] // dist.get_world_size()] * dist.get_world_size()
        )
        size = rows.element_size() * (rows[0].numel() if rows.shape[0] else 0)
        remote = size * (sum(per_rank) - per_rank[rank])
        self.messages += 1
        if rows.is_floating_point():
            self.rows += remote
            self.own += size * per_rank[rank]
        else:
            self.counts += remote
        if out_splits is not None:
            options |= {"output_split_sizes": out_splits, "input_split_sizes": in_splits}
        return self._original(output, input, **options)


def one_pass(rank: int, world_size: int, strata: list[int], tokens: int) -> dict[str, Any]:
    """Counts of one forward and backward pass of our layer."""
    from smoe_ds.moe import StratifiedMoE
    from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher

    torch.manual_seed(rank)
    layer = StratifiedMoE(D, F, strata, capacity_factor=2.0, ep_size=world_size, ep_rank=rank)
    layer.dispatcher = dispatcher = ExpertParallelDispatcher(dist.group.WORLD)
    needed = 0
    exchange_counts = dispatcher.exchange_counts

    def spy(kept: torch.Tensor, experts_per_rank: list[int], *rest: torch.Tensor) -> Any:
        nonlocal needed
        needed += int(kept[: len(kept) - experts_per_rank[rank]].sum())
        return exchange_counts(kept, experts_per_rank, *rest)

    dispatcher.exchange_counts = spy  # type: ignore[method-assign]
    x = torch.randn(tokens, D, requires_grad=True)
    with Counter() as counter:
        layer(x)[0].sum().backward()
    # A rank sends its rows out and the others' results back, and the gradients of both: its own rows are half of it.
    return {"needed_rows": needed, "counter": vars(counter)}


def deepspeed_pass(rank: int, world_size: int, tokens: int) -> dict[str, Any]:
    """Counts of one forward and backward pass of DeepSpeed's layer at the same capacity."""
    import deepspeed
    from deepspeed.moe.layer import MoE
    from deepspeed.utils import groups

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)
    torch.manual_seed(rank)
    layer = MoE(D, torch.nn.Linear(D, D), num_experts=EXPERTS, ep_size=world_size, k=2, capacity_factor=1.0)
    groups._create_expert_and_data_parallel(world_size)
    layer.set_deepspeed_parallelism()
    x = torch.randn(tokens, D, requires_grad=True)
    with Counter() as counter:
        layer(x)[0].sum().backward()
    return {"counter": vars(counter)}


def row(system: str, ep_size: int, results: list[dict[str, Any]], needed: int) -> dict[str, Any]:
    """Sums over the ranks: every row needed travels four times."""
    total = {name: sum(r["counter"][name] for r in results) for name in ("messages", "rows", "counts", "own")}
    bytes_needed = 4 * needed * D * 4
    return {
        "system": system,
        "ep_size": ep_size,
        "calls_per_rank": total["messages"] // ep_size,
        "row_bytes": total["rows"],
        "count_bytes": total["counts"],
        "own_bytes": total["own"],
        "needed_bytes": bytes_needed,
        "sent_over_needed": (total["rows"] + total["counts"]) / bytes_needed,
        "with_own": (total["rows"] + total["counts"] + total["own"]) / bytes_needed,
    }


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.exchange", description=__doc__)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens per rank")
    parser.add_argument("--ep-size", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    rows = []
    for ep_size in args.ep_size:
        for strata in ([8], [4, 4], [2, 2, 2, 2]):
            results = run_ranks(one_pass, ep_size, strata, args.tokens)
            needed = sum(result["needed_rows"] for result in results)
            rows.append(row("-".join(map(str, strata)), ep_size, results, needed))
            if len(strata) == 1:
                rows.append(row("DeepSpeed MoE", ep_size, run_ranks(deepspeed_pass, ep_size, args.tokens), needed))
    report("exchange of one forward and backward pass, all ranks", rows, args.json)
    return rows


if __name__ == "__main__":
    main()
