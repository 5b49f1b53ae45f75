"""Finished pieces: nothing is found that is not whole and made from the same; a full disk is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.stages.pieces import Pieces, fingerprint, write_file
from smoe_ds.errors import DataError
from tests.helpers.disks import small_disk


@pytest.fixture
def pieces(tmp_path: Path) -> Pieces:
    found = Pieces(tmp_path / "work")
    found.commit_data("text/00001", fingerprint("a"), {"text/00001.src": b"one", "text/00001.tgt": b""}, {"n": 1})
    return found


def test_a_finished_piece_is_found_with_its_result(pieces: Pieces) -> None:
    assert pieces.find("text/00001", fingerprint("a")) == {"n": 1} == pieces.result("text/00001")
    assert (pieces.root / "text/00001.src").read_bytes() == b"one"
    assert pieces.names("text") == ["text/00001"] and pieces.count() == 1
    assert not any((pieces.root / "drafts").iterdir())


def test_what_is_made_from_something_else_is_not_found(pieces: Pieces) -> None:
    assert pieces.find("text/00001", fingerprint("b")) is None
    assert pieces.find("text/00002", fingerprint("a")) is None


@pytest.mark.parametrize("damage", [b"onE", b"on", b"", b"ones", None])
def test_a_damaged_file_is_not_found(pieces: Pieces, damage: bytes | None) -> None:
    path = pieces.root / "text/00001.src"
    path.unlink() if damage is None else path.write_bytes(damage)
    assert pieces.find("text/00001", fingerprint("a")) is None


def test_every_bit_of_a_record_counts(pieces: Pieces) -> None:
    path = pieces.root / "records/text/00001.json"
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        assert pieces.find("text/00001", fingerprint("a")) is None, position
    path.write_bytes(data[:-5])
    assert pieces.find("text/00001", fingerprint("a")) is None
    with pytest.raises(DataError, match=r"text/00001.json: is gone or damaged"):
        pieces.result("text/00001")


def test_a_piece_is_replaced_and_removed(pieces: Pieces) -> None:
    pieces.commit_data("text/00001", fingerprint("b"), {"text/00001.src": b"two"}, None)
    assert pieces.find("text/00001", fingerprint("a")) is None
    assert (pieces.root / "text/00001.src").read_bytes() == b"two"
    pieces.remove("text/00001")
    assert pieces.count() == 0 and not (pieces.root / "text/00001.src").exists()


def test_a_full_disk_is_told_with_the_file_and_what_it_needs(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "64k"):
        pieces = Pieces(disk / "work")
        pieces.commit_data("a", fingerprint(), {"a.txt": b"x" * 8000}, None)
        message = r"/work/b.txt: No space left on device: it needs 99,000 bytes, [\d,]+ are free; make room and run"
        with pytest.raises(DataError, match=message):
            pieces.commit_data("b", fingerprint(), {"b.txt": b"x" * 99_000}, None)
        assert pieces.count() == 1 and not (disk / "work/b.txt").exists()
        assert (disk / "work/a.txt").read_bytes() == b"x" * 8000
        pieces.commit_data("b", fingerprint(), {"b.txt": b"x" * 9000}, None)  # nothing is left of the attempt


def test_other_errors_of_the_disk_are_not_taken_for_a_full_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "missing" / "a", b"x", tmp_path / "a", durable=True)
