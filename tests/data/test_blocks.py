"""Files that are checked block by block: what is counted as resident, and files that change place under the reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smoe_ds.data.blocks import _MAPPED_FILES, BlockSums, CheckedFile, _map
from smoe_ds.data.mapping import _AROUND
from smoe_ds.errors import DataError

BLOCK = 4096


def checked_file(path: Path, numbers: np.ndarray) -> CheckedFile:
    """Writes numbers, and opens the file as its checksums vouch for it."""
    sums = BlockSums(BLOCK)
    sums.update(numbers.tobytes())
    path.write_bytes(numbers.tobytes())
    return CheckedFile(path, numbers.dtype, numbers.nbytes, BLOCK, sums.sums(), lambda start, stop: "numbers")


def read(file: CheckedFile, *places: int) -> list[int]:
    start = np.array(places)
    return file.read(start, start + 1)[start].tolist()


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([0, (1 << 17) - 1], 1 << 20),  # all that lies between
        ([70_000, 20_000, 100_000, 10], 4 * _AROUND),  # not upwards: what lies around each
        ([5], _AROUND),
    ],
)
def test_pages_that_a_look_up_may_map_are_counted(tmp_path: Path, places: list[int], expected: int) -> None:
    file = checked_file(tmp_path / "numbers", np.arange(1 << 17))
    assert read(file, *places) == places
    assert expected <= _map(file).resident <= expected + _AROUND


@pytest.mark.parametrize("same", [True, False])
def test_a_file_that_is_mapped_again_must_be_the_one_that_was_checked(tmp_path: Path, same: bool) -> None:
    first, *others = [checked_file(tmp_path / str(number), np.arange(2000) + number) for number in range(385)]
    assert len(others) == _MAPPED_FILES
    assert read(first, 7, 1999) == [7, 1999]
    if not same:
        (np.arange(2000) + 5).tofile(tmp_path / "new")
        (tmp_path / "new").replace(first.path)
    assert read(first, 7) == [7]  # still mapped
    assert [read(file, 0) for file in others] == [[number] for number in range(1, 385)]
    if same:
        assert read(first, 7) == [7]
        return
    with pytest.raises(DataError, match="/0: was replaced while it was read; start again, and do not prepare into"):
        read(first, 7)
