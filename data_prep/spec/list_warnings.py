"""Where the text that was read differs from what the specification expects of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from data_prep.spec.sections import Spec
from smoe_ds.data.splits import SPLITS


def list_warnings(spec: Spec, report: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Pairs of a list that were left out, and texts with another number of lines than expected.

    Args:
        spec: the specification.
        report: counts by pair and split; ``read`` is the number of lines.
    """
    yield from (f"left out: {text}" for text in spec.left_out)
    for pair in spec.pairs:
        if pair.expect is None:
            continue
        for split in SPLITS:
            expected, read = getattr(pair.expect, split), report[pair.pair].get(split, {}).get("read", 0)
            slack = pair.expect.tolerance * expected if expected and split == "train" else 0
            if expected is not None and abs(read - expected) > slack:
                about = f" (within {pair.expect.tolerance:.0%})" if slack else ""
                yield f"{pair.pair} {split}: {read:,} lines read, expected {expected:,}{about}"
