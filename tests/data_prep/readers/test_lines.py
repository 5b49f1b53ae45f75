"""Lines of a file read by the block: the same as one by one, wherever blocks end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from data_prep.readers import lines
from data_prep.readers.notes import Notes
from data_prep.readers.sides import Side, Unusable

PARTS = [
    b"a",
    b"word ",
    "č漢😀".encode(),
    b"\r",
    b"\n",
    b"\n",
    b"\r\n",
    b"\xff",
    b"\xc4",
    b"long" * 9,
    b"\xef\xbb\xbf",
    b"",
]
LONGEST = 40  # bytes


def naive(data: bytes) -> tuple[list[Side], int]:
    """The lines of a file and its CRLF line ends, one line at a time."""
    found: list[Side] = []
    crlf = 0
    parts = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(parts if parts[-1] else parts[:-1]):
        if len(line) >= LONGEST:
            found.append(Unusable.TOO_LONG)
            continue
        if line.endswith(b"\r") and number < len(parts) - 1:
            crlf += 1
            line = line[:-1]
        try:
            found.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            found.append(Unusable.INVALID_UTF8)
    return found, crlf


@pytest.mark.parametrize("seed", range(40))
def test_lines_do_not_depend_on_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    ordinary = rng.random() < 0.5
    parts = [part for part in PARTS if part.isascii() and b"\r" not in part] if ordinary else PARTS
    data = b"".join(rng.choices(parts, k=rng.randint(0, 300)))
    path = tmp_path / "text"
    path.write_bytes(data)
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", LONGEST)
    monkeypatch.setattr(lines.LineReader, "_check_whole_file", lambda _: None)
    for block in (1, 7, 64, 1 << 13):
        monkeypatch.setattr(lines, "_BLOCK_BYTES", block)
        notes = Notes()
        reader = lines.LineReader(path, notes, refuse_invalid=False)
        found = list(reader)
        assert (found, notes.counts["crlf"]) == naive(data), block
        assert reader.num_lines == len(found)
