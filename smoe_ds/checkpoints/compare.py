"""Compares two checkpoints: their settings, and their tensors by logical name, whatever topology wrote each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.checkpoints import format as fmt
from smoe_ds.checkpoints.format import MASTER, MOMENTS
from smoe_ds.checkpoints.inspection import problems
from smoe_ds.checkpoints.part_reader import PartReader
from smoe_ds.errors import CheckpointError
from smoe_ds.run_names import CONFIG

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


@dataclass(frozen=True)
class Setting:
    """A key of the state or configuration that two checkpoints have otherwise.

    Attributes:
        key: joined with dots, e.g. ``config.smoe.moe.top_k``.
        one: value in the first, as JSON; None where it has no such key.
        other: value in the second.
    """

    key: str
    one: Any
    other: Any


@dataclass(frozen=True)
class Comparison:
    """All that differs.

    Attributes:
        one: the first checkpoint.
        other: the second.
        settings: keys of their states, and of their runs' configurations where these lie beside them.
        tensors: parameters and moments, the largest difference first.
    """

    one: Path
    other: Path
    settings: tuple[Setting, ...]
    tensors: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.settings or self.tensors)


def compare_checkpoints(one: Path, other: Path) -> Comparison:
    """What differs between two whole checkpoints.

    Raises:
        CheckpointError: one is damaged.
    """
    if damage := [*problems(one), *problems(other)]:
        raise CheckpointError("\n".join(damage))
    settings = tuple(Setting(*found) for found in differences(_described(one), _described(other)))
    tensors = sorted(compare(one, other), key=lambda d: -(float("inf") if d.largest is None else d.largest))
    return Comparison(one, other, settings, tuple(tensors))


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


def differences(one: Any, other: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Keys (joined with dots) under which two JSON values differ, with both values; None where there is none."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key), other.get(key), f"{at}.{key}" if at else str(key))
    elif one != other:
        yield at, one, other


def _described(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, and the configuration of its run where that lies beside it."""
    known = any(entry.name == fmt.STATE for entry in fmt.read_manifest(folder).files)
    described: dict[str, Any] = {"state": fmt.read_state(folder) if known else {}}
    config = folder.parent.parent / CONFIG
    if config.is_file():
        try:
            described["config"] = json.loads(config.read_bytes())
        except (ValueError, RecursionError) as error:
            described["config"] = f"{config} cannot be read ({error})"
    return described


def _largest(one: Tensor, other: Tensor) -> tuple[float, int] | None:
    """Largest absolute difference (NaN if there is one in either) and number of elements that differ in a bit."""
    import torch

    different = int((one.view(torch.int32) != other.view(torch.int32)).sum())
    return (float((one.double() - other.double()).abs().max()), different) if different else None
