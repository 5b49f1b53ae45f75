"""A problem of one rank reaches all of them, in the same words."""

from __future__ import annotations

import numpy as np
import pytest
import torch.distributed as dist

from smoe_ds.errors import CheckpointError, DataError, SmoeError
from smoe_ds.parallel import agreement
from smoe_ds.parallel.agreement import agree, gather_array, gather_json, sum_array, together
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank


def _disagree(rank: int, world_size: int) -> list[str]:
    messages = []
    agree(None, CheckpointError, "nothing")
    for problems in (["a", None], [None, "b"], ["a", "b"], ["c", "c"]):
        with pytest.raises(CheckpointError) as error:
            agree(problems[rank], CheckpointError, "saving")
        messages.append(str(error.value))
    return messages


def test_one_rank_with_a_problem_stops_all() -> None:
    for messages in run_ranks(_disagree, 2):
        assert messages == [
            "saving failed: rank 0: a",
            "saving failed: rank 1: b",
            "saving failed: rank 0: a; rank 1: b",
            "saving failed: c",
        ]


def _fail_together(rank: int, world_size: int) -> list[tuple[str, str, bool]]:
    raised: list[list[Exception | None]] = [
        [None, DataError("torn")],
        [OSError(28, "No space left on device"), None],
        [CheckpointError("b"), DataError("b")],
        [FileNotFoundError(2, "No such file", "a"), DataError("b")],
    ]
    found = []
    for number, errors in enumerate(raised):
        with pytest.raises(SmoeError) as seen, together(CheckpointError, "opening"):
            if (mine := errors[rank]) is not None:
                raise mine
        found.append((type(seen.value).__name__, str(seen.value), seen.value.agreed))
        assert gather_json(number) == [number] * world_size, "the ranks are at different collectives now"
    return found


def test_what_is_raised_on_one_rank_is_raised_on_all() -> None:
    for found in run_ranks(_fail_together, 2):
        assert found == [
            ("CheckpointError", "opening failed: rank 1: torn", True),
            ("CheckpointError", "opening failed: rank 0: [Errno 28] No space left on device", True),
            ("CheckpointError", "opening failed: b", True),
            ("CheckpointError", "opening failed: rank 0: [Errno 2] No such file: 'a'; rank 1: b", True),
        ]


def _only_rank_0_works(rank: int, world_size: int) -> list[str]:
    done = []
    with together(CheckpointError, "writing"):
        if rank == 0:
            done.append("written")
    return done


def test_a_block_may_be_for_one_rank() -> None:
    assert run_ranks(_only_rank_0_works, 2) == [["written"], []]


def test_one_process_needs_no_process_group() -> None:
    assert not dist.is_initialized()
    with pytest.raises(DataError, match=r"^opening failed: torn$"), together(DataError, "opening"):
        raise CheckpointError("torn")


def _nest(rank: int, world_size: int) -> tuple[str, str, int]:
    collectives = 0
    gather = agreement.gather_json

    def counted(value: object) -> list[object]:
        nonlocal collectives
        collectives += 1
        return gather(value)

    agreement.gather_json = counted
    with (
        pytest.raises(SmoeError) as seen,
        together(CheckpointError, "starting"),
        together(DataError, "opening"),
    ):
        if rank == 1:
            raise DataError("torn")
    return type(seen.value).__name__, str(seen.value), collectives


def test_what_all_have_agreed_on_is_not_agreed_on_again() -> None:
    assert run_ranks(_nest, 2) == [("DataError", "opening failed: rank 1: torn", 1)] * 2


def _defect(rank: int, world_size: int) -> str:
    gather_json("the ranks are connected")
    try:
        with together(DataError, "opening"):
            if rank == 1:
                raise ValueError("a defect")
    except ValueError as error:
        dist.destroy_process_group()  # as at the end of a process: this rank does not come to the collective
        return str(error)
    except RuntimeError as error:
        return f"gone: {error}"  # the other end of the connection
    return "went on"


def test_a_defect_ends_its_own_rank_and_by_that_the_others() -> None:
    waiting, defective = run_ranks(_defect, 2, timeout=60)
    assert waiting.startswith("gone: ") and defective == "a defect"


def _arrays(rank: int, world_size: int) -> tuple[list[list[float]] | None, list[list[int]], bool]:
    mine = np.array([0.1, -2.5, 1e300], np.float64)[: 2 * rank]
    gathered, nothing = gather_array(mine), gather_array(np.zeros(0, np.int32))
    total = sum_array(np.array([[rank, 2**40], [1, 2]]))
    assert total.dtype == np.int64
    kept = gathered is None or {of.dtype for of in gathered} == {mine.dtype}
    return gathered and [of.tolist() for of in gathered], total.tolist(), kept and (nothing is None) == (rank > 0)


def test_arrays_come_over_exactly_whatever_their_lengths() -> None:
    total = [[3, 3 * 2**40], [3, 6]]
    first, *others = run_ranks(_arrays, 3)
    assert first == ([[], [0.1, -2.5], [0.1, -2.5, 1e300]], total, True)
    assert others == [(None, total, True)] * 2
    assert run_ranks(_arrays, 1) == [([[]], [[0, 2**40], [1, 2]], True)]
