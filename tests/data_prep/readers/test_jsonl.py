"""JSON lines: keys, what is empty, and every refusal with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_prep.readers.jsonl import read_jsonl
from data_prep.readers.notes import Notes
from data_prep.readers.sides import SidePair, Unusable
from smoe_ds.errors import DataError


def read(folder: Path, content: bytes | str, *keys: str) -> list[SidePair]:
    path = folder / "a.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_jsonl(path, keys or ("en", "nso"), Notes(), refuse_invalid=False))


def test_keys_at_the_top_and_inside(tmp_path: Path) -> None:
    rows = [{"id": n, "en": f"Line {n}\u2028here.", "nso": f"Mothaladi {n} tše"} for n in range(3)]
    expected = [(row["en"], row["nso"]) for row in rows]
    for ascii_only in (True, False):
        lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
        assert read(tmp_path, "\n".join(lines) + "\n") == expected
        assert read(tmp_path, "\r\n".join(lines)) == expected
    assert read(tmp_path, lines[0], "nso", "en") == [expected[0][::-1]]
    inside = "".join(json.dumps({"translation": row}) + "\n" for row in rows)
    assert read(tmp_path, inside, "translation.en", "translation.nso") == expected


def test_empty_and_unusable_lines(tmp_path: Path) -> None:
    lines = [b'{"en": "a", "nso": null}', b"", b"  ", b'{"en": "\\ud800", "nso": "b"}', b'{"en": "\xff", "nso": "c"}']
    lines.append(b'{"en": "\\ud83d\\ude00", "nso": "' + b"x" * 10_000_000 + b'"}')
    lines.append(b'{"en": "\\ud83d\\ude00", "nso": "d"}')
    assert read(tmp_path, b"\n".join(lines)) == [
        ("a", ""),
        ("", ""),
        ("", ""),
        (Unusable.INVALID_UTF8, "b"),
        (Unusable.INVALID_UTF8, Unusable.INVALID_UTF8),
        (Unusable.TOO_LONG, Unusable.TOO_LONG),
        ("😀", "d"),
    ]


@pytest.mark.parametrize(
    ("line", "keys", "message"),
    [
        ('{"en": "a", "nso": "b"', (), r"not JSON \(Expecting ',' delimiter, column 23\); fix or remove the line"),
        ("a\tb", (), r"not JSON \(Expecting value, column 1\)"),
        ('["a", "b"]', (), "has a JSON list, expected an object"),
        ('{"en": "a", "nsoo": "b"}', (), r"lacks the key nso; did you mean nsoo\? \(set 'keys'\)"),
        ('{"src": "a", "tgt": "b"}', (), r"lacks the key en; keys here: src, tgt \(set 'keys'\)"),
        ("{}", (), "lacks the key en; keys here: none"),
        ('{"t": {"en": "a"}}', ("t.en", "t.nso"), r"lacks the key t.nso; keys here: t.en"),
        ('{"t": {"en": "a", "nsoo": "b"}}', ("t.en", "t.nso"), r"lacks the key t.nso; did you mean t.nsoo\?"),
        ('{"t": "a"}', ("t.en", "t.nso"), "t is not an object, so there is no t.en; set 'keys'"),
        ('{"t": {"en": {}}}', ("t.en", "t.nso"), "t.en is not text but dict; set 'keys'"),
        ('{"en": 3, "nso": "b"}', (), "en is not text but int"),
        ("[" * 100_000, (), "JSON that cannot be read"),
        ('{"en": ' + "1" * 5000 + "}", (), "JSON that cannot be read"),
    ],
)
def test_refused_with_the_line(tmp_path: Path, line: str, keys: tuple[str, ...], message: str) -> None:
    first = '{"en": "a", "nso": "b", "t": {"en": "a", "nso": "b"}}\n'
    with pytest.raises(DataError, match=rf"a.jsonl: line 2: {message}"):
        read(tmp_path, first + line + "\n", *keys)
