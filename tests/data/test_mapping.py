"""Mapped files keep few pages resident, whatever is read of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smoe_ds.data import mapping
from smoe_ds.data.mapping import Mapping
from smoe_ds.errors import DataError
from tests.helpers.resident import resident_of

SIZE = 32 << 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "numbers"
    np.arange(SIZE // 8).tofile(path)
    return path


def test_pages_are_given_back_and_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "RESIDENT", 4 << 20)
    mapped = Mapping(file, np.dtype("<i8"), SIZE)
    most = 0
    for start in range(0, SIZE // 8, 1 << 16):  # half a mebibyte
        mapped.looked_up(8, 1 << 19)
        part = mapped.numbers[start : start + (1 << 16)]
        assert int(part.sum()) == int(np.arange(start, start + len(part)).sum())
        most = max(most, resident_of(file))
    assert 0 < most <= 6 << 20
    mapped.give_back()
    assert resident_of(file) == 0
    assert mapped.numbers[-1] == SIZE // 8 - 1


def test_a_mapping_that_nobody_reads_is_closed(file: Path) -> None:
    mapped = Mapping(file, np.dtype("<i8"), SIZE)
    mapped.looked_up(1, 0)
    assert mapped.numbers[0] == 0 and resident_of(file) > 0
    del mapped
    assert resident_of(file) == 0


def test_another_size_and_no_file(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"numbers: expected {SIZE + 1} bytes, found {SIZE}"):
        Mapping(file, np.dtype("<i8"), SIZE + 1)
    with pytest.raises(DataError, match="none: No such file"):
        Mapping(tmp_path / "none", np.dtype("<i8"), 8)
    (tmp_path / "empty").write_bytes(b"")
    assert len(Mapping(tmp_path / "empty", np.dtype("<i8"), 0).numbers) == 0
