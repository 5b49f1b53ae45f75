"""``smoe-ds data`` as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.cli.main import main
from smoe_ds.config.data import DataConfig
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.stream import TrainStream
from tests.helpers.prepared import prepare_spec, sentence, translate, write_lines
from tests.helpers.small_run import small_run, write_run


@pytest.fixture
def copy(corpus: Corpus, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus.path, tmp_path / "copy"))


def output(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["data", *map(str, words)]) == 0
    return capsys.readouterr().out


def error(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["data", *map(str, words)]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    return streams.err


# check


@pytest.mark.parametrize("options", [[], ["--threads", "1"]])
def test_whole_corpus(corpus: Corpus, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    out = output(capsys, "check", corpus.path, *options)
    files = [path for path in corpus.path.rglob("*") if path.is_file() and path.name != "manifest.json"]
    size = sum(path.stat().st_size for path in files)
    pairs = sum(len(corpus.sentences(s, d)) for s in ("train", "valid", "test") for d in ("eng-nso", "eng-cat"))
    assert out == f"{corpus.path}: {len(files)} files, {size:,} bytes, {pairs:,} sentence pairs: all as written\n" + (
        f"vocabulary (normalization nfc): all of {2 * 2 * 30} held-out sentences come back from their pieces as they "
        "are\n"
    )


def test_all_damage_is_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "train/eng-nso/00000.eng.idx"
    data = bytearray(path.read_bytes())
    data[1030] ^= 8
    path.write_bytes(data)
    (copy / "valid/eng-cat/00000.cat.bin").write_bytes(b"")
    (copy / "text/test.eng-nso.nso").unlink()
    lines = error(capsys, "check", copy).splitlines()
    assert len(lines) == 4
    pattern = r"00000.eng.idx: content changed at byte offset 1024 to 1535 \(offsets of sentences 128 to 191 of \d+\)"
    assert re.search(pattern, lines[0])
    assert re.search(r"valid/eng-cat/00000.cat.bin: empty: expected \d+ bytes, found 0", lines[1])
    assert re.search(r"text/test.eng-nso.nso: No such file or directory", lines[2])
    assert lines[3] == f"{copy}: 3 problems; restore the files or prepare the corpus again"


def test_folder_without_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "manifest.json: missing" in error(capsys, "check", tmp_path)


# show


@pytest.mark.parametrize("direction", ["eng-nso", "nso-eng"])
@pytest.mark.parametrize(("split", "at"), [("test", 3), ("valid", 0)])
def test_sentence_pair(corpus: Corpus, capsys: pytest.CaptureFixture[str], direction: str, split: str, at: int) -> None:
    out = output(capsys, "show", corpus.path, direction, "--at", at, "--split", split)
    texts = [path.read_text(encoding="utf-8").splitlines()[at] for path in corpus.text_files(split, direction)]
    ids = corpus.sentences(split, direction)[at]
    lines = out.splitlines()
    assert lines[0] == f"{direction}: sentence {at} of {len(corpus.sentences(split, direction))} in {split}"
    for language, text, side_ids, first in zip(direction.split("-"), texts, ids, (2, 7), strict=True):
        assert lines[first] == f"{language}: {text}"
        pieces = lines[first + 1].removeprefix("  pieces: ").split(" ")
        assert "".join(pieces).replace("▁", " ").strip() == text
        assert lines[first + 2] == "  ids:    " + " ".join(map(str, side_ids.tolist()))
        place = re.fullmatch(
            r"  from:   (\S+), sentence (\d+), ids (\d+) to (\d+), byte offset (\d+)", lines[first + 3]
        )
        assert place is not None
        file, _, start, stop, offset = place.groups()
        assert int(offset) == 2 * int(start) and int(stop) - int(start) + 1 == len(side_ids)
        raw = (corpus.path / file).read_bytes()[int(offset) : int(offset) + 2 * len(side_ids)]
        assert raw == side_ids.astype("<u2").tobytes()


def test_there_is_no_such_sentence(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    last = len(corpus.sentences("test", "eng-nso")) - 1
    for at in (-1, last + 1):
        message = error(capsys, "show", corpus.path, "eng-nso", "--split", "test", "--at", at)
        assert f"--at {at}: eng-nso has sentences 0 to {last} in test" in message
    assert "no direction 'eng-nos'; did you mean eng-nso?" in error(capsys, "show", corpus.path, "eng-nos")


def test_a_damaged_sentence_is_not_shown(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "test/eng-nso/00000.nso.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    message = error(capsys, "show", copy, "eng-nso", "--split", "test")
    assert "00000.nso.bin: content changed at byte offset 0" in message


# stats


def stats(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(output(capsys, "stats", *words, "--json"))
    return result


def test_shares_and_tokens(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    found = stats(capsys, corpus.path, "--temperature", 2)
    assert [d["direction"] for d in found["directions"]] == list(corpus.directions)
    roots = {d: len(corpus.sentences("train", d)) ** 0.5 for d in corpus.directions}
    for entry in found["directions"]:
        sentences = corpus.sentences("train", entry["direction"])
        assert entry["sentences"] == len(sentences)
        assert entry["src_tokens"] == sentences.src_lengths[:].sum()
        assert entry["tgt_tokens"] == sentences.tgt_lengths[:].sum()
        assert entry["share"] == pytest.approx(roots[entry["direction"]] / sum(roots.values()))
    assert found["totals"]["sentences"] == sum(entry["sentences"] for entry in found["directions"])
    assert found["temperature"] == 2


def test_epochs_are_those_of_the_stream(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--temperature", 3, "--max-tokens", 500, "--micro-batches", 4)
    found = stats(capsys, corpus.path, *options)
    ids = {language: corpus.tokenizer.language_id(language) for language in corpus.languages}
    stream = TrainStream(
        {direction: corpus.sentences("train", direction) for direction in corpus.directions},
        ids,
        DataConfig(path="unused", temperature=3.0, max_tokens=500),
        seed=5,
        max_positions=512,
        micro_batches_per_step=4,
        rank=0,
        world_size=1,
        fingerprint=corpus.fingerprint,
        prefetch=0,
    )
    steps = [stream.next_step() for _ in range(200)]
    tokens = sum(step.num_src_tokens + step.num_tgt_tokens for step in steps)
    assert found["tokens_per_step"] == pytest.approx(tokens / 200, rel=0.02)
    padded = sum(batch.src.numel() + batch.tgt_out.numel() for step in steps for batch in step.batches)
    assert found["packing"] == pytest.approx(tokens / padded, abs=0.01)
    for entry in found["directions"]:
        assert entry["epochs"] / 500 == pytest.approx(steps[-1].epochs[entry["direction"]], rel=0.03)


def test_much_padding_comes_with_advice(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for window, much in ((64, True), (98_304, False)):
        run = small_run(tmp_path / "run", corpus.path)
        run["smoe"]["data"] |= {"window": window, "max_tokens": 256}
        file = write_run(tmp_path / "run.json", run)
        found = stats(capsys, corpus.path, "--run", file)
        assert (found["window"], found["packing"] < 0.95) == (window, much)
        assert main(["data", "stats", str(corpus.path), "--run", str(file)]) == 0
        assert (f"hint: windows of {window} pairs leave" in capsys.readouterr().out) == much


def lopsided(folder: Path) -> Corpus:
    """All sentences of one pair are long, and a third of those of the other."""
    pairs = []
    for language, sizes in (("nso", [40] * 150), ("cat", [2, 3, 40] * 50)):
        lines = [" ".join([sentence(k)] * (size // 2)) for k, size in enumerate(sizes)]
        pairs.append({"pair": f"eng-{language}", "train": [{
            "src": write_lines(folder / f"{language}.src", lines),
            "tgt": write_lines(folder / f"{language}.tgt", [translate(line, language) for line in lines]),
        }]})  # fmt: skip
    return prepare_spec(folder, {
        "output": "corpus", "pairs": pairs, "held_out": {"valid": 0, "test": 0},
        "sentencepiece": {"vocab_size": 400, "allow_smaller": True, "num_threads": 1},
    })  # fmt: skip


def test_sentences_that_are_too_long_do_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = lopsided(tmp_path)
    options = (corpus.path, "--max-tokens", 100, "--temperature", 2)
    found = stats(capsys, *options)
    by_name = {entry["direction"]: entry for entry in found["directions"]}
    sentences = {name: corpus.sentences("train", name) for name in corpus.directions}
    for name, pairs in sentences.items():
        lengths = pairs.src_lengths[:] + pairs.tgt_lengths[:] + 4  # a language token and an end on either side
        assert by_name[name]["too_long"] == sum(length > 100 for length in lengths.tolist())
    for name in ("eng-nso", "nso-eng"):
        assert by_name[name]["too_long"] == by_name[name]["sentences"]
        assert by_name[name]["share"] == by_name[name]["epochs"] == 0
    assert 0 < by_name["cat-eng"]["too_long"] < by_name["cat-eng"]["sentences"]
    assert by_name["cat-eng"]["share"] + by_name["eng-cat"]["share"] == pytest.approx(1)
    ids = {language: corpus.tokenizer.language_id(language) for language in corpus.languages}
    config = DataConfig(path="unused", temperature=2.0, max_tokens=100)
    with TrainStream(
        sentences, ids, config, seed=1, max_positions=512, micro_batches_per_step=1, rank=0, world_size=1,
        fingerprint=corpus.fingerprint, prefetch=0,
    ) as stream:  # fmt: skip
        steps = [stream.next_step() for _ in range(1000)]
    read = sum(len(batch.src) for step in steps for batch in step.batches)
    assert found["pairs_per_step"] == pytest.approx(read / 1000, rel=0.05)
    text = output(capsys, "stats", *options)
    total = found["totals"]["too_long"]
    assert f"warning: {total:,} of {found['totals']['sentences']:,} sentence pairs are never read, among them" in text
    assert "all of eng-nso, nso-eng: with special tokens a side exceeds max_positions 512" in text
    assert "never read" not in output(capsys, "stats", corpus.path)


def test_window_grows_with_the_batch(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a run of that max_tokens, unless the run file has a window of its own."""
    run = small_run(tmp_path / "run", corpus.path, max_steps=1)
    run["smoe"]["data"].pop("window", None)
    file = write_run(tmp_path / "run.json", run)
    direct = stats(capsys, corpus.path, "--run", file, "--set", "smoe.data.max_tokens=65536")
    assert stats(capsys, corpus.path, "--run", file, "--max-tokens", 65536) == direct


def test_settings_of_a_run_file(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(tmp_path / "run", corpus.path, max_steps=1)
    run["smoe"]["data"] |= {"directions": ["eng-nso"], "temperature": 4.0}
    file = write_run(tmp_path / "run.json", run)
    found = stats(capsys, corpus.path, "--run", file)
    assert (found["temperature"], found["micro_batches"]) == (4.0, run["train_batch_size"])
    assert [d["direction"] for d in found["directions"]] == ["eng-nso"]
    assert stats(capsys, corpus.path, "--run", file, "--set", "smoe.data.temperature=2")["temperature"] == 2
    assert stats(capsys, corpus.path, "--run", file, "--temperature", "3")["temperature"] == 3


def test_table_is_aligned(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(capsys, "stats", corpus.path).splitlines()
    assert [line.split()[0] for line in lines[2:6]] == list(corpus.directions)
    assert lines[7].startswith("4 directions")
    assert len({len(line) for line in lines[:8]}) == 1
    assert "packing" in lines[-1]


def test_options_that_make_no_sense(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--temperature 0.5: expected 1 or more" in error(capsys, "stats", corpus.path, "--temperature", "0.5")
    assert "--temperature inf: expected 1 or more, and not inf" in error(
        capsys, "stats", corpus.path, "--temperature", "inf"
    )
    assert "name it with --run" in error(capsys, "stats", corpus.path, "--set", "smoe.data.temperature=2")
    assert "expected a whole number" in error(capsys, "stats", corpus.path, "--max-tokens", "0")
    assert "the following arguments are required: ACTION" in error(capsys)
