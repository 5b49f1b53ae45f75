"""Lines: cut at line feeds alone, UTF-8 checked, nothing lost before an error."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pytest

from smoe_ds.decode.lines import chunked, decoded_lines, read_lines
from smoe_ds.errors import DataError

LZ4 = bytes.fromhex("04224d186440a702000080610a0000000085954d99")
"""What ``lz4`` makes of ``a`` and a line end."""


def zip_of(name: str, text: str) -> bytes:
    """An archive of one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return file.getvalue()


def lines_of(data: bytes) -> list[str]:
    return list(decoded_lines(io.BytesIO(data), "stdin"))


def test_only_line_feeds_end_a_line() -> None:
    text = "a\r\nb\u2028c\x85d\x0ce\x00\n\n ž"
    assert lines_of(text.encode()) == ["a\r", "b\u2028c\x85d\x0ce\x00", "", " ž"]
    assert lines_of(b"") == []
    assert lines_of(b"\n") == [""]


def test_invalid_bytes_are_placed() -> None:
    with pytest.raises(DataError, match=r"stdin: line 2, byte offset 4 \(1 in the line\): 0xff is not"):
        lines_of("š\n".encode() + b"a\xffb\n")
    with pytest.raises(DataError, match="line 1, byte offset 1 "):
        lines_of("aš".encode()[:-1])


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (gzip.compress(b"a\n"), "gzip"),
        (lzma.compress(b"a\n"), "xz"),
        (bz2.compress(b"a\n"), "bzip2"),
        (b"\x28\xb5\x2f\xfd\x24\x02\x11\x00\x00a\n\x00\x00\x00\x00", "zstd"),
        (LZ4, "lz4"),
        (zip_of("a.txt", "a\n"), "zip"),
    ],
    ids=[
        "gzip",
        "xz",
        "bzip2",
        "zstd",
        "lz4",
        "zip",
    ],  # names of tests must not depend on the time that gzip writes down
)
def test_compressed_text_is_named(data: bytes, name: str) -> None:
    with pytest.raises(DataError, match=f"stdin: is compressed with {name}; unpack it"):
        lines_of(data)


def test_text_that_only_begins_like_a_compressed_file() -> None:
    assert lines_of(b"BZh9 is a place.\nBZh91AY&SY\n") == ["BZh9 is a place.", "BZh91AY&SY"]


def test_lines_before_an_error_come_first() -> None:
    chunks = chunked(decoded_lines(io.BytesIO(b"1\n2\n3\n\xff\n5\n"), "stdin"), 2)
    assert [next(chunks), next(chunks)] == [["1", "2"], ["3"]]
    with pytest.raises(DataError, match="line 4"):
        next(chunks)


def test_chunks() -> None:
    assert list(chunked(iter("abcde"), 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(chunked(iter("abcd"), 2)) == [["a", "b"], ["c", "d"]]
    assert list(chunked(iter(""), 2)) == []


def test_read_lines_stops_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"1\n2\n\xff\n")
    assert read_lines(path, 2) == ["1", "2"]
    with pytest.raises(DataError, match="line 3"):
        read_lines(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_lines(tmp_path / "missing")
