"""Compressed files: every member to its end, damage and wrong names refused with a place, memory that does not grow."""

from __future__ import annotations

import lzma
import random
import tracemalloc
import zlib
from pathlib import Path

import pytest

from data_prep.readers.compressed import COMPRESSIONS, SUFFIXES, open_bytes
from data_prep.readers.lines import LineReader
from data_prep.readers.notes import Notes
from smoe_ds.errors import DataError
from tests.helpers.compressed import COMPRESS

LINES = [f"{random.Random(number).random()} line {number}" for number in range(20_000)]
TEXT = "".join(f"{line}\n" for line in LINES).encode()


def read(path: Path) -> bytes:
    with open_bytes(path) as file:
        return file.read()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_several_members_and_empty_ones_are_read_to_the_end(tmp_path: Path, suffix: str) -> None:
    compress, path = COMPRESS[suffix], tmp_path / f"a{suffix}"
    path.write_bytes(
        compress(b"") + compress(TEXT[:100_001]) + compress(b"") + compress(TEXT[100_001:]) + compress(b"")
    )
    assert read(path) == TEXT
    assert list(LineReader(path, Notes(), refuse_invalid=True)) == LINES
    path.write_bytes(compress(b""))
    assert read(path) == b""


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_padding_between_and_after_members(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(COMPRESS[suffix](b"one\n") + b"\0" * 200_000 + COMPRESS[suffix](b"two\n") + b"\0" * 512)
    assert read(path) == b"one\ntwo\n"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_truncation_is_refused(tmp_path: Path, suffix: str) -> None:
    """Whether the file ends in the first or the second of two members; only between them it is a shorter whole file."""
    path = tmp_path / f"a{suffix}"
    first, second = COMPRESS[suffix](b"some text\n" * 30), COMPRESS[suffix](b"more text\n" * 30)
    data = first + second
    for size in range(1, len(data)):
        path.write_bytes(data[:size])
        if size == len(first):
            assert read(path) == b"some text\n" * 30
            continue
        message = rf"a\{suffix}: (compressed file ended early, at byte {size}; copy|is named \{suffix}, but is not)"
        with pytest.raises(DataError, match=message):
            read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_flipped_byte_gives_an_error_and_never_other_text(tmp_path: Path, suffix: str) -> None:
    path, draw = tmp_path / f"a{suffix}", random.Random(suffix)
    half = COMPRESS[suffix](TEXT[:200_000])
    data = half + COMPRESS[suffix](TEXT[200_000:])
    refused = 0
    for place in [len(half) + 2, *(draw.randrange(len(data)) for _ in range(60))]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            assert read(path) == TEXT  # a byte that means nothing, such as gzip's time stamp
        except DataError as error:
            refused += 1
            assert f"{path}: damaged" in str(error) or "compressed file ended early" in str(error)
    assert refused > 50


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rubbish_after_the_last_member_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(COMPRESS[suffix](TEXT) + b"more lines, not compressed\n")
    with pytest.raises(DataError, match=r"damaged \w+ file, near byte \d+ \(.+\); copy or download it again"):
        read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_name_and_the_content_must_agree(tmp_path: Path, suffix: str) -> None:
    name = next(kind.name for kind in COMPRESSIONS if kind.suffix == suffix)
    plain, other = tmp_path / "a.txt", tmp_path / ("a.gz" if suffix != ".gz" else "a.xz")
    for path in (plain, other):
        path.write_bytes(COMPRESS[suffix](TEXT))
    with pytest.raises(DataError, match=rf"a.txt: is {name}-compressed, but is not named \{suffix}; rename"):
        open_bytes(plain)
    with pytest.raises(DataError, match=rf"is named \{other.suffix}, but is not .* but {name}-compressed; rename"):
        open_bytes(other)
    errors = {
        b"plain\n": rf"is named \{suffix}, but is not a {name} file; rename",
        b"": f"is empty, so it is not a {name} file; copy",
    }
    for content, error in errors.items():
        (tmp_path / f"b{suffix}").write_bytes(content)
        with pytest.raises(DataError, match=rf"b\{suffix}: {error}"):
            open_bytes(tmp_path / f"b{suffix}")


def test_plain_text_that_begins_like_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"BZh is a German abbreviation.\n")
    assert read(path) == b"BZh is a German abbreviation.\n"
    path.write_bytes(b"PK\x03\x04\x14\0\0\0")
    with pytest.raises(DataError, match="a: is a zip archive; unpack it"):
        open_bytes(path)
    path.write_bytes(b"\x04\x22\x4d\x18\x64\x40\xa7")
    with pytest.raises(DataError, match="a: is lz4-compressed, which is not supported; unpack it"):
        open_bytes(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_memory_does_not_grow_with_what_is_inside(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(COMPRESS[suffix](bytes(60_000_000)))
    tracemalloc.start()
    with open_bytes(path) as file:
        size = sum(len(block) for block in iter(lambda: file.read(1 << 16), b""))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 60_000_000 and peak < 16_000_000  # xz takes 8 MiB for its window


def test_an_xz_file_may_not_ask_for_all_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.xz"
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 4096}]
    data = bytearray(lzma.compress(b"text\n", check=lzma.CHECK_CRC32, filters=filters))
    size_at = data.index(bytes([lzma.FILTER_LZMA2, 1])) + 2
    data[size_at] = 40  # the largest window, 4 GiB
    header_size = (data[12] + 1) * 4
    crc = zlib.crc32(data[12 : 12 + header_size - 4])
    data[12 + header_size - 4 : 12 + header_size] = crc.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(DataError, match="needs too much memory to decompress"):
        read(path)
