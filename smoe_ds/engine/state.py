"""The engine's training state by logical name: read from any topology and ZeRO stage, written into any other."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smoe_ds.engine.expert_groups import data_parallel_group, expert_group
from smoe_ds.engine.fragments import (
    MASTER,
    MOMENTS,
    Fragment,
    ensure_moments,
    fragments,
    get_step,
    is_partitioned,
    publish_masters,
    replay_steps,
    set_step,
)
from smoe_ds.engine.ownership import assign_owners
from smoe_ds.engine.protocol import LossScaler, Optimizer, ScalesLoss, Steps, TrainingState
from smoe_ds.errors import CheckpointError
from smoe_ds.parallel.agreement import collective_device, gather_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

KEYS = (MASTER, *MOMENTS)
PIECE = 1 << 18  # elements (1 MiB, so that a processor's cache holds it): copied, gathered, hashed, written at a time
_COUNTERS = ("global_steps", "global_samples", "skipped_steps")
_SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")

Reader = Callable[[str, str], "Tensor"]  # (name, key) -> the whole fp32 tensor


@dataclass(frozen=True)
class Owned:
    """A parameter that this rank writes; `step` counts Adam's, None for a frozen one, which has no moments."""

    name: str
    shape: tuple[int, ...]
    step: int | None


@dataclass(frozen=True)
class _Entry:
    """One parameter held by this rank.

    Attributes:
        name: its logical name.
        shape: its shape.
        fragment: what this rank holds of it.
        owner: the rank that writes it.
        owned: first and last element (exclusive) of what its owner holds of it.
        group: the ranks among which its pieces lie.
    """

    name: str
    shape: tuple[int, ...]
    fragment: Fragment
    owner: int
    owned: tuple[int, int]
    group: ProcessGroup | None


def owned_parameters(engine: TrainingState) -> list[Owned]:
    """Names, shapes and Adam steps of what this rank writes, in the order of `gather_state`. A collective."""
    import torch.distributed as dist

    ensure_moments(engine)
    optimizer = engine.basic_optimizer
    return [
        Owned(entry.name, entry.shape, None if entry.fragment.frozen else get_step(optimizer, entry.fragment.owner))
        for entry in _entries(engine)
        if entry.owner == dist.get_rank()
    ]


def gather_state(engine: TrainingState) -> Iterator[tuple[str, str, Tensor]]:
    """Yields (name, key, flat fp32 piece on the CPU) for what this rank writes; keys "master", then each moment unless
    the parameter is frozen.

    Every parameter of the job is yielded by exactly one rank, from its first element to its last in pieces of at most
    `PIECE`. A piece may share memory with the optimizer: it holds until the next step. Under ZeRO 1 and 2 a rank
    writes what it holds; only parameters that lie across the border of two ranks' partitions are gathered, piece by
    piece. A collective then: every rank must exhaust it, whatever happens to what it yields.
    """
    import torch.distributed as dist

    ensure_moments(engine)
    for entry in _entries(engine):
        numel = math.prod(entry.shape)
        for key in _keys(entry.fragment):
            for begin in range(0, max(numel, 1), PIECE):
                piece = _piece(engine, entry, key, begin, min(begin + PIECE, numel))
                if entry.owner == dist.get_rank():
                    yield entry.name, key, piece


def restore_state(engine: TrainingState, reader: Reader, steps: Mapping[str, int]) -> None:
    """Writes fp32 weights, moments and step counts into the engine, and the weights into its model. A collective.

    Args:
        engine: before or after its first step.
        reader: gives the whole tensor of a name and key; only pages of the fragment held here are touched.
        steps: Adam steps by name; those of frozen parameters do not matter.

    Raises:
        CheckpointError: step counts differ between parameters that the engine keeps in one flat tensor.
    """
    ensure_moments(engine)
    optimizer = engine.basic_optimizer
    step_of: dict[int, tuple[int, str]] = {}
    for name, fragment in fragments(engine).items():
        if not fragment.frozen:
            first = step_of.setdefault(id(fragment.owner), (steps[name], name))
            if first[0] != steps[name]:
                raise CheckpointError(
                    f"{name} has taken {steps[name]} Adam steps, {first[1]} has taken {first[0]}; ZeRO keeps one count "
                    "for both: load this checkpoint at zero_optimization.stage 0"
                )
            set_step(optimizer, fragment.owner, steps[name])
        if fragment.numel:
            for key in _keys(fragment):
                whole = reader(name, key).reshape(-1)
                fragment.view(optimizer, key).copy_(whole.narrow(0, fragment.start, fragment.numel))
    replay_steps(optimizer)
    publish_masters(engine)


def without_moments(module: nn.Module, steps: Container[str]) -> list[str]:
    """Parameters of this rank that are trained and have no Adam steps in a checkpoint."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad and name not in steps]


def _keys(fragment: Fragment) -> tuple[str, ...]:
    """What is kept of a parameter."""
    return (MASTER,) if fragment.frozen else KEYS


def persistent_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The model's state beside its parameters, by name: the same on every rank, whole numbers below 2^24 or fp32."""
    return {
        f"{prefix}.{name}" if prefix else name: buffer
        for prefix, part in module.named_modules()
        for name, buffer in part.named_buffers(recurse=False)
        if name not in part._non_persistent_buffers_set
    }


def held_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of this rank's parameters and persistent buffers by logical name: what a checkpoint gives values to."""
    held = {**dict(module.named_parameters()), **persistent_buffers(module)}
    return {name: tuple(tensor.shape) for name, tensor in held.items()}


def held_nowhere(names: Iterable[str], held: Container[str]) -> list[str]:
    """Those of `names`, the same on all ranks, that no rank holds. A collective."""
    elsewhere = gather_json([name for name in names if name not in held])
    return sorted(set.intersection(*map(set, elsewhere)))


def engine_counters(engine: Steps) -> dict[str, Any]:
    """Step counters and the dynamic loss scaler's state, as JSON."""
    counters: dict[str, Any] = {name: int(getattr(engine, name)) for name in _COUNTERS}
    scaler = _dynamic_scaler(engine.optimizer)
    if scaler is not None:
        counters["loss_scaler"] = {name: getattr(scaler, name) for name in _SCALER}
    return counters


def restore_counters(engine: Steps, counters: Mapping[str, Any]) -> None:
    """Puts back what `engine_counters` returned.

    The count of micro-steps follows from the steps and this engine's accumulation, which may differ from the writer's.
    A loss scaler in the counters is ignored without fp16; with fp16 and none in the counters the initial scale stays.
    """
    for name in _COUNTERS:
        setattr(engine, name, int(counters[name]))
    engine.micro_steps = engine.global_steps * engine.gradient_accumulation_steps()
    scaler = _dynamic_scaler(engine.optimizer)
    if scaler is not None and "loss_scaler" in counters:
        for name in _SCALER:
            setattr(scaler, name, counters["loss_scaler"][name])


def _dynamic_scaler(optimizer: Optimizer) -> LossScaler | None:
    if isinstance(optimizer, ScalesLoss) and optimizer.loss_scaler.dynamic:
        return optimizer.loss_scaler
    return None


def _entries(engine: TrainingState) -> list[_Entry]:
    """This rank's parameters, dense ones first, in an order that all ranks of a parameter's group share."""
    import torch.distributed as dist

    found = fragments(engine)
    by_group: dict[str, dict[str, torch.nn.Parameter]] = {}
    for name, parameter in sorted(engine.module.named_parameters()):
        by_group.setdefault(expert_group(parameter), {})[name] = parameter
    held = _held(found) if is_partitioned(engine) else None
    entries: list[_Entry] = []
    for group_name, members in sorted(by_group.items()):
        group = data_parallel_group(group_name)
        ranks = dist.get_process_group_ranks(group)
        pieces = {
            name: {rank: held[rank][name] for rank in ranks if name in held[rank]}
            if held is not None
            else dict.fromkeys(ranks, (0, parameter.numel()))
            for name, parameter in members.items()
        }
        # a parameter without elements lies in no partition
        holders = {name: tuple(by_rank) or tuple(ranks) for name, by_rank in pieces.items()}
        owners = assign_owners({name: p.numel() for name, p in members.items()}, holders)
        for name, parameter in members.items():
            owned = pieces[name].get(owners[name], (0, 0))
            entries.append(_Entry(name, tuple(parameter.shape), found[name], owners[name], owned, group))
    return entries


def _held(found: Mapping[str, Fragment]) -> list[dict[str, tuple[int, int]]]:
    """By rank, first and last element (exclusive) of what it holds of each parameter it holds something of."""
    mine = {name: [piece.start, piece.start + piece.numel] for name, piece in found.items() if piece.numel}
    return [{name: (begin, end) for name, (begin, end) in of_rank.items()} for of_rank in gather_json(mine)]


def _piece(engine: TrainingState, entry: _Entry, key: str, begin: int, end: int) -> Tensor:
    """Some elements of a parameter's flat tensor on its owner, in CPU memory; elsewhere something of no meaning.

    What lies on several ranks is put together as integers: a sum of floats would turn -0.0 into 0.0.
    """
    import torch
    import torch.distributed as dist

    fragment, rank = entry.fragment, dist.get_rank()
    low, high = max(begin, fragment.start), min(end, fragment.start + fragment.numel)
    mine = torch.empty(0)
    if low < high:
        mine = fragment.view(engine.basic_optimizer, key).narrow(0, low - fragment.start, high - low)
    if entry.owned[0] <= begin and end <= entry.owned[1]:
        return mine.to("cpu", torch.float32) if entry.owner == rank else torch.empty(0)
    whole = torch.zeros(end - begin, dtype=torch.float32, device=collective_device())
    if low < high:
        whole.narrow(0, low - begin, high - low).copy_(mine)
    dist.reduce(whole.view(torch.int32), dst=entry.owner, group=entry.group)
    return whole.cpu()
