"""Translation with experts beside its extra matrix products: ``python -m tests.benchmarks.decode_products``.

The calls of all feed-forward networks and experts of a translation are written down, with their rows. Made again in the
same order without anything between them, they are the products alone, with weights that are no more in the cache than
there. What a mixture has to take longer than a dense model is the difference between their products.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

from tests.benchmarks.decode import OURS, add_sizes, our_network, our_translate, random_sources
from tests.benchmarks.measure import report

Calls = list[tuple[Any, int]]


class Timed:
    """One system.

    Args:
        name: of it.
        sizes: what is translated.
        batch: sources.
    """

    def __init__(self, name: str, sizes: argparse.Namespace, batch: list[list[int]]) -> None:
        from smoe_ds.decode.packed_model import PackedFFN

        network = our_network(OURS[name], "float32", sizes)
        self.translate, self.batch, self.calls = our_translate(network, sizes), batch, Calls()
        networks = [module for module in network.modules() if isinstance(module, PackedFFN)]
        hooks = [
            ffn.register_forward_pre_hook(lambda ffn, inputs: self.calls.append((ffn, inputs[0].shape[:-1].numel())))
            for ffn in networks
        ]
        self.translate(batch)
        for hook in hooks:
            hook.remove()
        self.rows = torch.randn(max(rows for _, rows in self.calls), sizes.width)

    @torch.inference_mode()
    def products(self) -> None:
        """The products of all feed-forward networks, as often and in the order of a translation."""
        for ffn, rows in self.calls:
            ffn(self.rows[:rows])

    def seconds(self, clock: str) -> tuple[float, float]:
        """Of a translation and of its products."""
        now = time.process_time if clock == "cpu" else time.perf_counter
        began = now()
        self.translate(self.batch)
        between = now()
        self.products()
        return between - began, now() - between


def row(system: str, size: int, mine: list[tuple[float, float]], dense: list[tuple[float, float]]) -> dict[str, Any]:
    """Medians over rounds, each compared with the dense model in the same round."""
    rounds = [(a - c, b - d, c + b - d, a) for (a, b), (c, d) in zip(mine, dense, strict=True)]
    return {
        "system": system,
        "batch": size,
        "ms": round(statistics.median(a for a, _ in mine) * 1e3),
        "products (ms)": round(statistics.median(b for _, b in mine) * 1e3),
        "speed over dense": round(statistics.median(c / a for (a, _), (c, _) in zip(mine, dense, strict=True)), 3),
        "over dense and extra products": round(statistics.median(a / floor for _, _, floor, a in rounds), 3),
        "extra over extra products": round(statistics.median(extra / more for extra, more, _, _ in rounds), 3),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a line for each mixture and batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_sizes(parser)
    mixtures = [name for name, strata in OURS.items() if strata]
    parser.add_argument("--systems", nargs="+", choices=mixtures, default=["vanilla", "2-2-2-2"])
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = []
    for size in args.batches:
        batch = random_sources(random.Random(0), size, args)
        systems = {name: Timed(name, args, batch) for name in ["dense", *args.systems]}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
        for _ in range(args.repeats):
            for name, system in systems.items():
                times[name].append(system.seconds(args.clock))
        rows += [row(name, size, times[name], times["dense"]) for name in args.systems]
    report(f"beam {args.beam}, {args.clock} time, one thread, packed", rows, args.json)


if __name__ == "__main__":
    main()
