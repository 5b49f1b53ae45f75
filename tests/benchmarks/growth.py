"""Cost of the layer as tokens, experts and strata grow, against its floor: ``python -m tests.benchmarks.growth``.

One of the three grows at a time. What grows faster than the rows is the layer's own overhead: routing, gathering, sums.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from typing import Any

import torch

from tests.benchmarks.layer import WIDTHS, floor, forward_backward, kept_rows, make
from tests.benchmarks.measure import interleaved, parse_timing, peak_memory, ratio, report


def cases(tokens: int, experts: int) -> Iterator[tuple[str, list[int], int]]:
    """What grows, strata, tokens."""
    for times in (1, 2, 4, 8, 16):
        yield "tokens", [experts], tokens // 4 * times
    for times in (1, 2, 4, 8):
        yield "experts", [experts // 2 * times], tokens
    for strata in (1, 2, 4, 8):
        if experts // strata >= 2:
            yield "strata", [experts // strata] * strata, tokens


def measure(grows: str, strata: list[int], tokens: int, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    layer, x, grad = make(args.width, strata, tokens, device, dtype)
    rows = kept_rows(layer, forward_backward(layer, x, grad))
    candidates = {"layer": lambda: forward_backward(layer, x, grad), "floor": floor(layer, rows, x)}
    times = interleaved(candidates, args.repeats, device, args.clock)
    num_rows, over = sum(n for _, n in rows), ratio(times, "layer", "floor")
    return {
        "grows": grows,
        "strata": "-".join(map(str, strata)),
        "tokens": tokens,
        "rows": num_rows,
        "layer_ms": 1e3 * statistics.median(times["layer"]),
        "floor_ms": 1e3 * statistics.median(times["floor"]),
        "over_floor": over["median"],
        "quartiles": f"{over['q1']:.2f}-{over['q3']:.2f}",
        "us_per_row": 1e6 * statistics.median(times["layer"]) / num_rows,
        "layer_mib": peak_memory(candidates["layer"], device) / 2**20,
    }


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=__doc__)
    parser.add_argument("--width", choices=list(WIDTHS), default="m4")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens where something else grows")
    parser.add_argument("--experts", type=int, default=16, help="experts where something else grows")
    args = parse_timing(parser, argv, repeats=5)
    rows = []
    for grows, strata, tokens in cases(args.tokens, args.experts):
        rows.append(measure(grows, strata, tokens, args))
        print(rows[-1], flush=True)
    report(f"growth, {args.dtype} on {args.device}", rows, args.json)
    return rows


if __name__ == "__main__":
    main()
