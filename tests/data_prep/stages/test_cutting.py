"""Text of every oddity gives the same files, report and order of its counts included, however it is cut into pieces."""

from __future__ import annotations

import json
import random
from pathlib import Path

from data_prep.prepare import prepare
from data_prep.spec.load_spec import load_spec
from tests.data_prep.test_prepare import files_of
from tests.helpers.prepared import sentence, small_spec, translate, write_spec

ODD = ["", " ", "12 34", "a\0b c", "\ufeffx y", "ﬁne Ünder", "漢字 が", "x" * 50_000, "\u2028 dom", "e\u0301 \u00ad."]


def odd_pairs(rng: random.Random, number: int) -> list[tuple[str, str]]:
    """Every second pair has an odd side, or two equal ones."""
    pairs = [(sentence(index), translate(sentence(index), "nso")) for index in range(number)]
    for row in range(0, number, 2):
        src, tgt = pairs[row]
        pairs[row] = rng.choice([(rng.choice(ODD), tgt), (src, f"{rng.choice(ODD)} {tgt}"), (src, src), (tgt, src)])
    return pairs


def text_of(sides: list[str], mark: bytes) -> bytes:
    """A file with a byte order mark, CRLF now and then, a line that is no UTF-8, and no line end at its end."""
    lines = [side.encode() + (b"\r" if row % 7 == 3 else b"") for row, side in enumerate(sides)]
    lines[20] = b"\xff\xfe" + lines[20]
    return mark + b"\n".join([*lines, b"end"])


def test_odd_text_however_it_is_cut(tmp_path: Path) -> None:
    pairs = odd_pairs(random.Random(1), 200)
    for side, (name, mark) in enumerate((("odd.eng", b""), ("odd.nso", b"\xef\xbb\xbf"))):
        (tmp_path / name).write_bytes(text_of([pair[side] for pair in pairs], mark))
    objects = [
        json.dumps({"eng": src.replace(" ", "\n", 1), "nso": tgt}) for src, tgt in odd_pairs(random.Random(2), 200)
    ]
    (tmp_path / "odd.jsonl").write_text("\n".join(objects), encoding="utf-8")
    spec = small_spec(tmp_path, languages=("nso",), size=100)
    spec["pairs"][0]["train"] = [
        {"src": "odd.eng", "tgt": "odd.nso"},
        {"jsonl": "odd.jsonl"},
        *spec["pairs"][0]["train"],
    ]
    loaded = load_spec(write_spec(tmp_path, spec))
    results = []
    for piece_size in (1000, 64, 3):
        corpus = prepare(loaded, tmp_path, tmp_path / f"out{piece_size}", piece_size=piece_size)[0]
        results.append((files_of(corpus.path), (corpus.path / "report.json").read_bytes()))
    assert results[0] == results[1] == results[2]
    counts = corpus.manifest["report"]["eng-nso"]["train"]
    assert {"invalid_utf8", "empty", "copy", "too_long", "no_letters"} <= set(counts["dropped"])
    assert {"byte_order_mark", "crlf", "control_characters"} <= set(counts["noticed"])
    assert b"\\\\n" in results[0][1]  # a line end inside a side is shown as one
