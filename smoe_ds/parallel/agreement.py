"""Decisions that all ranks take together: each says what it saw, everybody reads all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from smoe_ds.errors import SmoeError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


def gather_json(value: Any) -> list[Any]:
    """`value` of every rank, in rank order, on every rank. A collective; waits at most the process group's timeout.

    Args:
        value: anything JSON can carry.
    """
    import torch
    import torch.distributed as dist

    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [json.loads(json.dumps(value))]
    device = collective_device()
    mine = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([mine.numel()], device=device))
    longest = int(max(size.item() for size in sizes))
    padded = torch.zeros(longest, dtype=torch.uint8, device=device)
    padded[: mine.numel()] = mine
    rows = [torch.zeros_like(padded) for _ in sizes]
    dist.all_gather(rows, padded)
    texts = [row[: int(size.item())].cpu().numpy().tobytes() for row, size in zip(rows, sizes, strict=True)]
    return [json.loads(text) for text in texts]


def gather_array(mine: NDArray[Any]) -> list[NDArray[Any]] | None:
    """One-dimensional arrays of all ranks, in rank order, on rank 0; None on the others. A collective.

    Args:
        mine: of any length, and of the same type on all ranks.
    """
    import torch
    import torch.distributed as dist

    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [mine]
    device, first = collective_device(), dist.get_rank() == 0
    lengths = [int(length) for length in gather_json(len(mine))]
    padded = torch.zeros(max(lengths) * mine.itemsize, dtype=torch.uint8)
    padded[: mine.nbytes] = (
        torch.frombuffer(bytearray(mine.tobytes()), dtype=torch.uint8) if mine.nbytes else padded[:0]
    )
    rows = [torch.zeros_like(padded, device=device) for _ in lengths] if first else None
    if max(lengths):
        dist.gather(padded.to(device), rows)
    if rows is None:
        return None
    return [row.cpu().numpy().view(mine.dtype)[:length] for row, length in zip(rows, lengths, strict=True)]


def sum_array(mine: NDArray[Any]) -> NDArray[Any]:
    """The sum of an array over all ranks, on every rank. A collective.

    Args:
        mine: of the same shape and type on all ranks.
    """
    import torch
    import torch.distributed as dist

    if not dist.is_initialized() or dist.get_world_size() == 1:
        return mine
    total = torch.tensor(mine, device=collective_device())
    dist.all_reduce(total)
    return total.cpu().numpy()


@contextmanager
def together(error: type[SmoeError], what: str) -> Iterator[None]:
    """What one rank cannot do ends all: every rank hears of it at the end of the block. A collective.

    The block holds no collective of its own but those that end in agreement. What it raises beside `SmoeError` and
    OSError is a defect: it is not told, and ends its rank as it would without this.

    Args:
        error: class of the error that is raised.
        what: what is attempted in the block, the beginning of the message.

    Raises:
        SmoeError: of class `error`, on all ranks, if the block raised on any; or the block's own error, if all ranks
            had agreed on it already.
    """
    problem = None
    try:
        yield
    except (SmoeError, OSError) as raised:
        if isinstance(raised, SmoeError) and raised.agreed:
            raise
        problem = str(raised)
    agree(problem, error, what)


def agree(problem: str | None, error: type[SmoeError], what: str) -> None:
    """Raises on all ranks if any rank has a problem. A collective.

    Args:
        problem: what went wrong on this rank, or None.
        error: class of the error that is raised.
        what: what was attempted, the beginning of the message.
    """
    problems = gather_json(problem)
    ranks_of: dict[str, list[int]] = {}
    for rank, text in enumerate(problems):
        if text is not None:
            ranks_of.setdefault(text, []).append(rank)
    if not ranks_of:
        return
    texts = [text if len(ranks) == len(problems) else f"{_name(ranks)}: {text}" for text, ranks in ranks_of.items()]
    raised = error(f"{what} failed: {'; '.join(texts)}")
    raised.agreed = True
    raise raised


def _name(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def collective_device() -> torch.device:
    """The device whose tensors the process group's backend takes."""
    import torch
    import torch.distributed as dist

    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
