"""What ``smoe-ds analyze`` costs beside the forward pass: ``python -m tests.benchmarks.analyze RUN``.

The same batches are read in turns: by the plain forward pass, with everything counted, and with all that is made of
the counts as well. Ratios are those within a round.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from smoe_ds.analysis.pruning import held_out_batches
from smoe_ds.analysis.routing_analysis import analyse_routing
from smoe_ds.analysis.routing_use import measure_routing
from smoe_ds.decode.load import open_trained
from smoe_ds.evaluate.held_out import choose_directions, corpus_of
from tests.benchmarks.measure import interleaved, parse_timing, ratio, report


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.analyze", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--split", default="valid")
    parser.add_argument("--limit", type=int, default=50, help="sentences per direction")
    args = parse_timing(parser, argv, repeats=7)
    model = open_trained(args.run_dir, dtype=args.dtype, device=args.device)
    translator = model.translator(model.checkpoint())
    corpus = corpus_of(model, None)
    directions = choose_directions(model.config.smoe.data.directions, corpus, None, args.split).directions
    batches = held_out_batches(translator, corpus, args.split, directions, args.limit)

    @torch.inference_mode()
    def forward() -> None:
        for some in batches.values():
            for batch in some:
                translator.model(batch.src.to(translator.device), batch.tgt_in.to(translator.device))

    times = interleaved(
        {
            "forward": forward,
            "counts": lambda: measure_routing(translator, batches, lambda _: None),
            "analysis": lambda: analyse_routing(translator, corpus, args.split, directions, args.limit),
        },
        args.repeats,
        translator.device,
        args.clock,
    )
    rows = [
        {"pass": name, "seconds": sum(seconds) / len(seconds), **ratio(times, name, "forward")}
        for name, seconds in times.items()
    ]
    tokens = sum(some.num_src_tokens + some.num_tgt_tokens for some in batches.values())
    report(f"{args.run_dir.name}: {len(directions)} directions, {tokens:,} tokens", rows, args.json)
    return rows


if __name__ == "__main__":
    main()
