"""Manifests whose digest fits and which no preparation wrote: refused before a file that they name is looked for."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.report.text import format_report
from smoe_ds.data.check_corpus import check_corpus
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.manifest import FORMAT, MANIFEST, VERSION, read_manifest, shard_files, write_manifest
from smoe_ds.data.manifest_schema import problem_of
from smoe_ds.data.splits import SPLITS
from smoe_ds.errors import DataError
from tests.helpers.mutations import changed_text, changed_tree, within
from tests.helpers.prepared import small_corpus

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus"), shards={"sentences": 150}).path


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "corpus"))


def changed(folder: Path, change: Callable[[Manifest], object]) -> Path:
    """The corpus with another manifest, whose digest fits."""
    manifest = copy.deepcopy(read_manifest(folder))
    change(manifest)
    write_manifest(folder, manifest)
    return folder


def first_side(manifest: Manifest) -> Manifest:
    side: Manifest = manifest["splits"]["train"]["eng-nso"]["shards"][0]["sides"]["eng"]
    return side


def rename_pair(manifest: Manifest, name: Any) -> None:
    manifest["pairs"] = [name if pair == "eng-nso" else pair for pair in manifest["pairs"]]
    for entries in (*manifest["splits"].values(), manifest["report"]):
        entries[str(name)] = entries.pop("eng-nso")


ELSEWHERE = [
    "../../../evil.bin",
    "/etc/passwd",
    "a/b.bin",
    "..",
    ".hidden.bin",
    "",
    "a\0.bin",
    "a\n.bin",
    "a\u2028.bin",
]


@pytest.mark.parametrize("name", ELSEWHERE, ids=ascii)
@pytest.mark.parametrize("kind", ["bin", "idx", "crc", "tokenizer", "report_file", "text"])
def test_a_name_outside_of_the_folder(kind: str, name: str, folder: Path) -> None:
    name = name.replace(".bin", f".{kind}")

    def rename(manifest: Manifest) -> None:
        place = (
            manifest.get(kind) or first_side(manifest).get(kind) or manifest["splits"]["test"]["eng-nso"]["text"]["eng"]
        )
        place["file"] = name

    with pytest.raises(
        DataError, match=r"manifest.json: .*file: String should match pattern.*; data_prep did not write this; re"
    ):
        check_corpus(changed(folder, rename), threads=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: rename_pair(m, "../x"), "pairs[0]: String should match pattern"),
        (lambda m: m.update(pairs=["../x"]), "pairs[0]: String should match pattern"),
        (lambda m: m.update(pairs=5), "pairs: Input should be a valid list, found 5"),
        (lambda m: m.update(pairs=[5]), "pairs[0]: Input should be a valid string, found 5"),
        (lambda m: rename_pair(m, "eng-eng"), "pairs: one pairs a language with itself"),
        (lambda m: m["pairs"].append("nso-eng"), "pairs: two are of the same two languages"),
        (lambda m: m["pairs"].append("eng-xyz"), "languages: lacks one of the pairs'"),
        (lambda m: m.update(languages=None), "languages: Input should be a valid list, found null"),
        (lambda m: m.update(languages=["eng", "../x"]), "languages[1]: String should match pattern"),
        (lambda m: m.pop("tokenizer"), "tokenizer: Field required"),
        (lambda m: m["tokenizer"].update(vocab_size=0), "tokenizer.vocab_size: Input should be greater"),
        (lambda m: m["tokenizer"].update(vocab_size="9"), "tokenizer.vocab_size: Input should be a valid integer"),
        (lambda m: m["tokenizer"].update(sha256="x"), "tokenizer.sha256: String should match"),
        (lambda m: m["splits"].pop("test"), "splits: expected train, valid and test"),
        (lambda m: m["splits"].update(more={}), "splits.more."),
        (lambda m: m["splits"]["train"].pop("eng-nso"), "splits.train: its pairs are not those of the corpus"),
        (lambda m: m["splits"]["train"]["eng-nso"]["tokens"].pop("eng"), "its languages are not eng and nso"),
        (lambda m: m["splits"]["train"]["eng-nso"]["shards"][0]["sides"].pop("eng"), "languages are not eng and nso"),
        (lambda m: m["splits"]["test"]["eng-nso"]["text"].pop("eng"), "its languages are not eng and nso"),
        (lambda m: m["splits"]["train"]["eng-nso"].update(sentences=-1), "sentences: Input should be greater"),
        (lambda m: m["splits"]["train"]["eng-nso"].update(sentences=1.0), "sentences: Input should be a valid integer"),
        (
            lambda m: m["splits"]["train"]["eng-nso"].update(sentences=True),
            "sentences: Input should be a valid integer",
        ),
        (lambda m: m["splits"]["train"]["eng-nso"].update(shards=None), "shards: Input should be a valid list"),
        (lambda m: first_side(m)["bin"].update(file="00000.eng.idx"), "bin.file: String should match"),
        (lambda m: first_side(m)["bin"].update(bytes=2**70), "bin.bytes: Input should be less"),
        (lambda m: m.update(report={"x-y": {}}), "report.x-y: is not a pair of the corpus"),
        (lambda m: m["report"]["eng-nso"]["train"].pop("read"), "report.eng-nso: says neither"),
        (lambda m: m["report"]["eng-nso"]["train"].pop("dropped"), "report.eng-nso.train.dropped: Field required"),
        (lambda m: m.update(vocabulary={}), "vocabulary.requested: Field required"),
        (lambda m: m.update(warnings="x"), "warnings: Input should be a valid list"),
        (lambda m: m.update(inputs=[{"file": 5}]), "inputs[0].file: Input should be a valid string"),
        (lambda m: m.update(spec=_nested(200)), "spec: it is nested more than 50 deep"),
    ],
    ids=range(32),
)
def test_what_no_corpus_has(change: Callable[[Manifest], object], message: str, folder: Path) -> None:
    changed(folder, change)
    with pytest.raises(DataError) as caught:
        check_corpus(folder, threads=1)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(DataError):
        Corpus(folder, verify=False)


def _nested(depth: int) -> Manifest:
    return {"a": _nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda side: side.update(tokens=side["tokens"] + 1), "contradicts itself on sentences and bytes"),
        (lambda side: side["crc"].update(bytes=0), "expected 0 bytes"),
        (lambda side: side["idx"].update(bytes=0), "expected 0 bytes"),
    ],
)
def test_numbers_that_contradict_each_other(change: Callable[[Manifest], object], message: str, folder: Path) -> None:
    changed(folder, lambda manifest: change(first_side(manifest)))
    assert any(message in line for line in check_corpus(folder, threads=1).damage)
    with pytest.raises(DataError):
        Corpus(folder, verify=False)


def test_an_empty_file_of_many_ids(folder: Path) -> None:
    """Mapping it would not be possible."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    def empty_ids(manifest: Manifest) -> None:
        first_side(manifest)["bin"].update(bytes=0, sha256=empty)
        file = folder / "train/eng-nso" / first_side(manifest)["bin"]["file"]
        file.write_bytes(b"")

    (line, *_) = check_corpus(changed(folder, empty_ids), threads=1).damage
    assert "contradicts itself on sentences and bytes" in line


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_a_listed_file_that_is_none(kind: str, folder: Path) -> None:
    """The zeros of a device never end, and a pipe waits for its writer."""
    changed(folder, lambda manifest: manifest["report_file"].update(bytes=0))
    place = folder / "report.json"
    place.unlink()
    {"device": lambda: place.symlink_to("/dev/zero"), "pipe": lambda: os.mkfifo(place), "folder": place.mkdir}[kind]()
    assert check_corpus(folder, threads=1).damage == (f"{place}: is no regular file, but manifest.json lists it",)
    place.rmdir() if kind == "folder" else place.unlink()
    (folder / MANIFEST).unlink()
    {"device": lambda: (folder / MANIFEST).symlink_to("/dev/zero"), "pipe": lambda: os.mkfifo(folder / MANIFEST),
     "folder": (folder / MANIFEST).mkdir}[kind]()  # fmt: skip
    with pytest.raises(DataError, match=r"manifest.json: cannot be read \(is a \w+, not a file\)"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "entries",
    [
        '"format": ["smoe-corpus"]',
        '"version": 2',
        '"format": "smoe-corpus", "version": ' + "[" * 900 + "]" * 900,
        "1",
        "\x00",
    ],
    ids=range(5),
)
def test_a_digest_of_something_else(entries: str, folder: Path) -> None:
    import hashlib

    text = f'{{\n "sha256": "{"0" * 64}",\n {entries}\n}}'.encode()
    (folder / MANIFEST).write_bytes(text.replace(b"0" * 64, hashlib.sha256(text).hexdigest().encode(), 1))
    with pytest.raises(DataError, match=r"manifest.json: (is not a manifest|format .* expected|tokenizer: Field)"):
        read_manifest(folder)


def test_keys_that_a_later_version_adds_are_left_alone(folder: Path) -> None:
    changed(folder, lambda manifest: manifest.update(more=[1]) or first_side(manifest).update(more={"a": None}))
    assert not check_corpus(folder, threads=1).damage
    assert read_manifest(folder)["more"] == [1] and Corpus(folder).directions


def test_manifests_that_the_first_writers_of_this_version_wrote(folder: Path) -> None:
    """They had no groups, no report.json and no figures of languages."""

    def as_then(manifest: Manifest) -> None:
        del manifest["groups"], manifest["report_file"], manifest["vocabulary"]["languages"]

    corpus = Corpus(changed(folder, as_then), verify=True)
    assert corpus.manifest["version"] == 2 and corpus.directions_of("train")
    assert "eng-nso" in format_report(corpus.manifest)


@pytest.mark.parametrize("number", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_any_manifest_is_read_or_refused(number: int, folder: Path) -> None:
    manifest = read_manifest(folder)
    read = 0
    for seed in range(number):
        source = random.Random(seed)
        _write_any(folder, manifest, source)
        with within(1, f"seed {seed}"):
            try:
                _use(folder)
                read += 1
            except DataError as error:
                assert len(str(error)) < 3000, seed
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    assert 0 < read < number


def _write_any(folder: Path, manifest: Manifest, source: random.Random) -> None:
    if source.random() < 0.2:
        text = (folder / MANIFEST).read_text(encoding="utf-8", errors="replace")
        (folder / MANIFEST).write_bytes(changed_text(text, source).encode("utf-8", "surrogatepass"))
        return
    part = source.choice([None, None, "splits", "tokenizer", "vocabulary", "report", "pairs"])
    tree = changed_tree(manifest if part is None else manifest[part], source)
    entries = tree if part is None and isinstance(tree, dict) else manifest | {part or "spec": tree}
    if source.random() < 0.9:
        entries |= {"format": FORMAT, "version": VERSION}
    try:
        write_manifest(folder, entries)
    except (UnicodeEncodeError, ValueError):  # half a surrogate pair, or a number of thousands of digits
        write_manifest(folder, json.loads(json.dumps(manifest)))


def _use(folder: Path) -> None:
    """All that is done with a manifest, but reading sentences."""
    damage = check_corpus(folder, threads=1).damage
    assert all("/../" not in line for line in damage)
    corpus = Corpus(folder, verify=False)
    assert all((folder / name).resolve().is_relative_to(folder.resolve()) for name, _ in shard_files(corpus.manifest))
    assert problem_of(corpus.manifest) is None
    assert corpus.fingerprint and isinstance(format_report(corpus.manifest), str)
    for split in SPLITS:
        corpus.directions_of(split)
    _ = corpus.tokenizer
