"""The manifest: every flipped bit is found, and it names no file elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.checkpoints.format import read_manifest, read_pointer, read_state, write_manifest
from smoe_ds.checkpoints.part_file import FileEntry
from smoe_ds.errors import CheckpointError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "step_00000007"
    folder.mkdir()
    files = [FileEntry("state.json", 56, "cd")]
    write_manifest(folder, 7, files)
    return folder


def test_every_flipped_bit_of_the_manifest_is_found(folder: Path) -> None:
    path = folder / "manifest.json"
    content = path.read_bytes()
    assert read_manifest(folder).step == 7
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            read_manifest(folder)
    for length in range(len(content) - 1):  # the last byte is a line feed
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_manifest(folder)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", ".", "a/b", "", 7])
def test_a_manifest_that_names_other_places_is_refused(folder: Path, name: str) -> None:
    write_manifest(folder, 7, [FileEntry(name, 5, "cd")])
    with pytest.raises(CheckpointError, match=r"manifest\.json: names a file outside"):
        read_manifest(folder)


def test_state_and_pointer_that_are_none_are_named(folder: Path) -> None:
    for text in (b"[1]", b"\x80\x04", b"[" * 100_000, b"{"):
        (folder / "state.json").write_bytes(text)
        with pytest.raises(CheckpointError, match=r"state\.json: "):
            read_state(folder)
    (folder.parent / "latest").write_bytes(b"\x80\xff")
    assert read_pointer(folder.parent, "latest") == "\\x80\\xff"
    assert read_pointer(folder.parent, "best") is None
