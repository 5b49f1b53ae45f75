"""The format document says what a prepared corpus is: a corpus is read by it alone, and every key is in it."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import data_prep
from data_prep.spec.sections import LANGUAGE
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.manifest import FORMAT, VERSION
from tests.helpers.prepared import prepare_spec, small_corpus, small_spec

DOCUMENT = (Path(data_prep.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return small_corpus(tmp_path_factory.mktemp("format"), shards={"sentences": 150})


def table_keys(heading: str) -> set[str]:
    """The names in the first column of a section's table."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.split("\n") if line.startswith("| ")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def entries_of(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [entry for item in value for entry in entries_of(item)]
    if not isinstance(value, dict):
        return []
    return [value] if {"file", "bytes", "sha256"} <= value.keys() else entries_of(list(value.values()))


def test_every_key_of_the_manifest_is_described_and_no_other(corpus: Corpus) -> None:
    assert table_keys("manifest.json") == set(corpus.manifest)
    assert f"format `{FORMAT}`, version {VERSION}." in DOCUMENT


def test_every_key_of_the_report_is_described_and_no_other(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    (tmp_path / "more.eng").write_bytes("Größe\nkaputt\n".encode("latin-1"))
    (tmp_path / "more.cat").write_text("el que\nça ral\n", encoding="utf-8")
    spec["pairs"][1]["train"].append({"src": "more.eng", "tgt": "more.cat"})
    corpus = prepare_spec(tmp_path, spec)
    report = json.loads((corpus.path / "report.json").read_text(encoding="utf-8"))
    assert set(report) == {"pairs", "vocabulary", "warnings"}
    assert all(report[key] == corpus.manifest[key] for key in ("vocabulary", "warnings"))
    found = [(split, counts) for splits in report["pairs"].values() for split, counts in splits.items()]
    assert table_keys("report.json") == {key for _, counts in found for key in counts}
    for split, counts in found:
        total = counts.get("read", counts.get("drawn"))
        assert total == sum(counts["dropped"].values()) + counts.get("moved", 0) + counts["kept"]
        assert ("read" in counts) == (split == "train") == ("drawn" not in counts)
    section = DOCUMENT.split("\n## report.json\n")[1].split("\n## ")[0]
    for figures in report["vocabulary"]["languages"].values():
        assert all(f"`{name}`" in section for name in figures)


def test_codes_are_as_the_document_says() -> None:
    assert "A code has 2 to 32 characters: letters, digits and `_`, the first a letter." in DOCUMENT
    assert all(LANGUAGE.fullmatch(code) for code in ("ab", "A1", "zho_Hant", "a" + "_" * 31))
    assert not any(LANGUAGE.fullmatch(code) for code in ("a", "1a", "_a", "a-b", "ñu", "a" * 33))


def test_shards_are_read_by_the_document_alone(corpus: Corpus) -> None:
    sides = 0
    for split, pairs in corpus.manifest["splits"].items():
        for pair, entry in pairs.items():
            for language in pair.split("-"):
                sentences = []
                for shard in entry["shards"]:
                    sides += 1
                    stem = corpus.path / split / pair / f"{shard['name']}.{language}"
                    ids = np.frombuffer(stem.with_suffix(f".{language}.bin").read_bytes(), "<u2")
                    index = np.frombuffer(stem.with_suffix(f".{language}.idx").read_bytes(), "<u8")
                    assert (len(index), index[0], index[-1]) == (shard["sentences"] + 1, 0, len(ids))
                    sentences += [ids[index[i] : index[i + 1]].tolist() for i in range(shard["sentences"])]
                    assert stem.with_suffix(f".{language}.crc").read_bytes() == sums(stem, language)
                if split != "train":
                    text = (corpus.path / "text" / f"{split}.{pair}.{language}").read_text(encoding="utf-8")
                    assert text.endswith("\n") and sentences == [corpus.tokenizer.encode(s) for s in text.splitlines()]
                assert len(sentences) == entry["sentences"]
    assert sides > 2 * 3 * 2  # two pairs, three splits, two languages, and training text of several shards


def sums(stem: Path, language: str) -> bytes:
    """The checksums that the document asks for."""
    found = []
    for kind, block in (("bin", 4096), ("idx", 512)):
        data = stem.with_suffix(f".{language}.{kind}").read_bytes()
        found += [zlib.crc32(data[start : start + block]) for start in range(0, len(data), block)]
    return np.array(found, "<u4").tobytes()


def test_the_manifest_vouches_for_itself_and_for_every_file(corpus: Corpus) -> None:
    data = (corpus.path / "manifest.json").read_bytes()
    digest = json.loads(data)["sha256"].encode()
    assert hashlib.sha256(data.replace(digest, b"0" * 64, 1)).hexdigest().encode() == digest
    listed = {(entry["file"], entry["sha256"]) for key, value in corpus.manifest.items() if key != "inputs"
              for entry in entries_of(value)}  # fmt: skip
    files = [path for path in corpus.path.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert {(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files} == listed


def test_nothing_of_the_machine_is_in_the_manifest(corpus: Corpus) -> None:
    assert str(corpus.path.parent) not in (corpus.path / "manifest.json").read_text(encoding="utf-8")
