"""Compares the tensors of two checkpoints by logical name, whatever topology each was written with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.checkpoints import format as fmt
from smoe_ds.checkpoints.format import MASTER, MOMENTS
from smoe_ds.checkpoints.part_reader import PartReader

if TYPE_CHECKING:
    from torch import Tensor

STEPS = "steps"


@dataclass(frozen=True)
class Difference:
    """One parameter, or a moment of it, that two checkpoints have otherwise.

    Attributes:
        name: logical name of the parameter.
        key: "master", a moment, or "steps".
        text: how they differ.
        largest: largest absolute difference of an element; None where that has no meaning.
    """

    name: str
    key: str
    text: str
    largest: float | None = None


def compare(one: Path, other: Path) -> Iterator[Difference]:
    """What differs bit for bit, in the order of names; one pair of tensors is read at a time.

    Raises:
        CheckpointError: a file cannot be read.
    """
    a, b = (PartReader(folder, fmt.read_manifest(folder)) for folder in (one, other))
    for name in sorted({*a.names, *b.names}):
        if name not in a.shapes or name not in b.shapes:
            yield Difference(name, MASTER, f"only in {one if name in a.shapes else other}")
            continue
        if a.shapes[name] != b.shapes[name]:
            yield Difference(name, MASTER, f"shapes {list(a.shapes[name])} and {list(b.shapes[name])}")
            continue
        if a.steps.get(name) != b.steps.get(name):
            yield Difference(name, STEPS, f"Adam steps {a.steps.get(name)} and {b.steps.get(name)}")
        both = name in a.steps and name in b.steps
        for key in (MASTER, *(MOMENTS if both else ())):
            if (found := _largest(a.tensor(name, key), b.tensor(name, key))) is not None:
                yield Difference(name, key, f"max |difference| {found[0]:.3g}, {found[1]:,} elements", found[0])


def _largest(one: Tensor, other: Tensor) -> tuple[float, int] | None:
    """Largest absolute difference (NaN if there is one in either) and number of elements that differ in a bit."""
    import torch

    different = int((one.view(torch.int32) != other.view(torch.int32)).sum())
    return (float((one.double() - other.double()).abs().max()), different) if different else None
