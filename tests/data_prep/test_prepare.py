"""The whole preparation: no leakage, the same bytes every time, complete or not there, reuse, clear refusals."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

import data_prep.prepare
from data_prep.prepare import prepare
from data_prep.spec.load_spec import load_spec
from smoe_ds.data.corpus import Corpus
from smoe_ds.errors import DataError
from tests.helpers.prepared import prepare_spec, sentence, small_corpus, small_spec, write_lines, write_pair, write_spec


def train_text(corpus: Corpus, direction: str) -> list[tuple[str, str]]:
    """The training pairs of a direction, decoded."""
    sentences = corpus.sentences("train", direction)
    decode = corpus.tokenizer.decode
    return [(decode(a.tolist()), decode(b.tolist())) for a, b in (sentences[i] for i in range(len(sentences)))]


def held_out_text(corpus: Corpus, split: str, direction: str) -> list[tuple[str, str]]:
    src, tgt = (path.read_text(encoding="utf-8").split("\n")[:-1] for path in corpus.text_files(split, direction))
    return list(zip(src, tgt, strict=True))


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_no_leakage(corpus: Corpus) -> None:
    keys: dict[str, set[str]] = {}
    for split in ("train", "valid", "test"):
        texts = [(train_text if split == "train" else _held(split))(corpus, pair) for pair in corpus.pairs]
        keys[split] = {letters_of(side) for text in texts for pair in text for side in pair}
    assert keys["train"] and not keys["train"] & (keys["valid"] | keys["test"]) and not keys["valid"] & keys["test"]


def letters_of(text: str) -> str:
    """A sentence without case, punctuation, spacing and width."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum()) or text


def _held(split: str) -> Any:
    return lambda corpus, pair: held_out_text(corpus, split, pair)


def test_training_text_is_what_was_given(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, languages=("nso",), held_out={"valid": 0, "test": 0})
    src = (tmp_path / "train.eng-nso.eng").read_text(encoding="utf-8").split("\n")[:-1]
    tgt = (tmp_path / "train.eng-nso.nso").read_text(encoding="utf-8").split("\n")[:-1]
    assert train_text(corpus, "eng-nso") == list(zip(src, tgt, strict=True))
    assert train_text(corpus, "nso-eng") == list(zip(tgt, src, strict=True))
    entry = corpus.manifest["splits"]["train"]["eng-nso"]
    assert entry["sentences"] == 400
    assert entry["tokens"]["nso"] == int(np.asarray(corpus.sentences("train", "eng-nso").tgt_lengths).sum())


def test_a_sentence_that_is_its_own_translation_is_never_drawn(tmp_path: Path) -> None:
    """With copies: keep there are such pairs, here three of four; those that differ in case alone count too."""
    spec = small_spec(tmp_path, ("nso",))
    source = spec["pairs"][0]["train"][0]
    lines = (tmp_path / source["src"]).read_text().splitlines()
    others = (tmp_path / source["tgt"]).read_text().splitlines()
    mixed = [
        (src, tgt, src.upper(), src)[number % 4] for number, (src, tgt) in enumerate(zip(lines, others, strict=True))
    ]
    write_lines(tmp_path / source["tgt"], mixed)
    corpus = prepare_spec(tmp_path, spec | {"clean": {"copies": "keep", "near_duplicates": "keep"}})
    for split, number in (("valid", 10), ("test", 20)):
        drawn = held_out_text(corpus, split, "eng-nso")
        assert len(drawn) == number and not any(src.lower() == tgt.lower() for src, tgt in drawn)


def test_drawn_sets_are_the_same_sentences_in_every_pair_and_nowhere_in_training(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, languages=("nso", "cat", "rus"))
    assert_no_leakage(corpus)
    english = {pair: {src for src, _ in held_out_text(corpus, "test", pair)} for pair in corpus.pairs}
    assert all(len(texts) == 20 for texts in english.values())
    assert len(english["eng-nso"] & english["eng-cat"]) >= 10  # seven eighths of the two texts are shared
    report = corpus.manifest["report"]
    for pair in corpus.pairs:
        counts = report[pair]["train"]
        kept = corpus.manifest["splits"]["train"][pair]["sentences"]
        assert counts["read"] == 400 == kept + counts["moved"] + sum(counts["dropped"].values())
        assert counts["moved"] == 30


def test_given_sets_are_kept_and_taken_out_of_training(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    spec["pairs"][0]["test"] = write_pair(tmp_path, "test", "nso", range(60, 80))
    spec["pairs"][1]["valid"] = [write_pair(tmp_path, "valid", "cat", range(70, 100))]
    corpus = prepare_spec(tmp_path, spec)
    assert_no_leakage(corpus)
    assert [src for src, _ in held_out_text(corpus, "test", "eng-nso")] == [sentence(n) for n in range(60, 80)]
    drawn = {src for src, _ in held_out_text(corpus, "test", "eng-cat")}
    valid = [src for src, _ in held_out_text(corpus, "valid", "eng-cat")]
    assert not drawn & set(valid) and valid == [sentence(n) for n in range(80, 100)]
    assert corpus.manifest["report"]["eng-cat"]["valid"]["dropped"] == {"held_out": 10}
    assert corpus.manifest["report"]["eng-nso"]["train"]["dropped"]["held_out"] >= 20


@pytest.mark.parametrize("seed", range(4))
def test_no_leakage_through_any_side_of_messy_text(tmp_path: Path, seed: int) -> None:
    """Pairs without a common pivot, many sentences with several translations, in other case, spacing, punctuation."""
    rng = random.Random(seed)
    pairs = []
    for first, second in (("eng", "nso"), ("cat", "nso"), ("eng", "cat")):
        lines = [(_messy(rng, first), _messy(rng, second)) for _ in range(300)]
        files = {
            side: write_lines(tmp_path / f"{first}-{second}.{side}", [line[number] for line in lines])
            for number, side in enumerate(("src", "tgt"))
        }
        pairs.append({"pair": f"{first}-{second}", "train": [files]})
    corpus = prepare_spec(tmp_path, {
        "output": "corpus", "pairs": pairs, "held_out": {"valid": 4, "test": 6, "max_fraction": 0.2},
        "clean": {"duplicates": rng.choice(["keep", "drop"]), "near_duplicates": "keep"}, "seed": seed,
        "sentencepiece": {"vocab_size": 330, "allow_smaller": True, "num_threads": 1},
    })  # fmt: skip
    assert_no_leakage(corpus)
    assert all(len(corpus.sentences("test", pair)) == 6 for pair in corpus.pairs)


def _messy(rng: random.Random, language: str) -> str:
    text = f"{language} word {rng.randint(0, 150)} of {rng.choice('ab')}"
    apart = f"{text[:6]}-{text[6:]}"
    return rng.choice(
        [text, text.upper(), f"“{text}”", text + " ...", text.replace(" ", "  "), apart, text.replace(" ", "")]
    )


def test_same_bytes_again_in_another_place_and_with_several_processes(tmp_path: Path) -> None:
    results = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        results.append(files_of(small_corpus(folder, languages=("nso", "cat"), shards={"sentences": 100}).path))
    spec = load_spec(tmp_path / "one" / "spec.yaml")
    for workers, piece_size in ((1, 70), (2, 70), (3, 33)):
        output = tmp_path / f"{workers}-{piece_size}"
        options: dict[str, Any] = {"workers": workers, "piece_size": piece_size}
        results.append(files_of(prepare(spec, tmp_path / "one", output, **options)[0].path))
    assert all(result == results[0] for result in results) and len(results) == 5
    assert "train/eng-nso/00003.eng.bin" in results[0] and "text/test.eng-cat.cat" in results[0]


def test_another_seed_holds_out_others(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, languages=("nso",))
    first = prepare_spec(tmp_path, spec)
    second = prepare_spec(tmp_path, spec | {"seed": 2, "output": "other"})
    assert set(held_out_text(first, "test", "eng-nso")) != set(held_out_text(second, "test", "eng-nso"))


def test_the_manifest_vouches_for_inputs_and_specification(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path)
    assert [entry["file"] for entry in corpus.manifest["inputs"]] == sorted(
        path.name for path in tmp_path.glob("train.*")
    )
    for entry in corpus.manifest["inputs"]:
        data = (tmp_path / entry["file"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert corpus.manifest["spec"]["sentencepiece"]["temperature"] == 5.0
    assert str(tmp_path) not in json.dumps(corpus.manifest)
    sample = corpus.manifest["vocabulary"]["sample"]
    assert sample["eng"]["sentences"] > sample["nso"]["sentences"] > sample["nso"]["sampled"] - 100


def test_a_finished_output_is_verified_and_reused(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path)
    spec = load_spec(tmp_path / "spec.yaml")
    before = {path: path.stat().st_mtime_ns for path in corpus.path.rglob("*")}
    again, reused = prepare(spec, tmp_path, corpus.path)
    assert reused and again.fingerprint == corpus.fingerprint
    assert before == {path: path.stat().st_mtime_ns for path in corpus.path.rglob("*")}
    shard = corpus.path / "train/eng-nso/00000.eng.bin"
    shard.write_bytes(shard.read_bytes()[:-2] + b"\0\0")
    with pytest.raises(DataError, match=r"(?s)00000.eng.bin: content changed.*prepare the corpus again"):
        prepare(spec, tmp_path, corpus.path)
    repaired, reused = prepare(spec, tmp_path, corpus.path, overwrite=True)
    assert not reused and repaired.fingerprint == corpus.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["corpus"]


def test_another_specification_is_refused_naming_the_difference(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    path = prepare_spec(tmp_path, spec).path
    before = files_of(path)
    other = spec | {"seed": 2, "sentencepiece": spec["sentencepiece"] | {"temperature": 2}}
    message = (
        r"another specification \(seed is 1 there and 2 here; sentencepiece.temperature is 5.0 there and 2.0 here\)"
    )
    with pytest.raises(DataError, match=message + ".*--overwrite"):
        prepare_spec(tmp_path, other)
    assert files_of(path) == before
    assert prepare_spec(tmp_path, other, overwrite=True).manifest["spec"]["seed"] == 2


def test_a_changed_input_is_refused(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    prepare_spec(tmp_path, spec)
    write_pair(tmp_path, "train", "nso", range(1, 401))
    with pytest.raises(DataError, match=r"prepared before \S+/train.eng-nso.eng changed; add --overwrite"):
        prepare_spec(tmp_path, spec)


def test_foreign_folders_are_never_replaced(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "precious.txt").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"corpus: exists, but has no manifest.json; choose another output"):
            prepare_spec(tmp_path, spec, overwrite=overwrite)
    (tmp_path / "corpus" / "precious.txt").unlink()
    prepare_spec(tmp_path, spec)


@pytest.mark.parametrize("stage", ["read_all", "split_corpus", "train_vocabulary", "encode_all", "warnings_of"])
@pytest.mark.parametrize("existing", [False, True])
def test_an_interruption_takes_nothing_and_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, existing: bool
) -> None:
    spec = small_spec(tmp_path, languages=("nso",), size=60)
    before = files_of(prepare_spec(tmp_path, spec).path) if existing else {}

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(data_prep.prepare, stage, interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare_spec(tmp_path, spec, overwrite=True)
    work = [] if stage == "read_all" else ["corpus.work"]  # nothing was finished then
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == (["corpus"] if existing else []) + work
    assert not existing or files_of(tmp_path / "corpus") == before


def test_an_error_in_a_worker_process_arrives(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    with (tmp_path / "train.eng-cat.cat").open("a", encoding="utf-8") as file:
        file.write("una línia més\n")
    with pytest.raises(DataError, match=r"train.eng-cat.eng has 400 lines, \S+train.eng-cat.cat has 401"):
        prepare_spec(tmp_path, spec, workers=2)
    assert not (tmp_path / "corpus").exists()


def test_missing_input(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    (tmp_path / "train.eng-cat.cat").unlink()
    with pytest.raises(DataError, match=r"no such file: \S+train.eng-cat.cat \(eng-cat\); relative paths"):
        prepare_spec(tmp_path, spec)


def test_empty_held_out_text_is_refused(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    spec["pairs"][0]["test"] = {"src": write_lines(tmp_path / "e", []), "tgt": write_lines(tmp_path / "n", [])}
    with pytest.raises(DataError, match="no sentence pairs in the test text of eng-nso: 0 read, none dropped"):
        prepare_spec(tmp_path, spec)


def test_too_large_a_vocabulary(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, languages=("nso",), size=50)
    settings = {"vocab_size": 5000, "num_threads": 1}
    with pytest.raises(DataError, match=r"vocab_size: 5000 is more than this text has, which is (\d+); set it to") as e:
        prepare_spec(tmp_path, spec | {"sentencepiece": settings})
    largest = int(str(e.value).split("which is ")[1].split(";")[0])
    corpus = prepare_spec(tmp_path, spec | {"sentencepiece": settings | {"vocab_size": largest}})
    assert corpus.tokenizer.vocab_size == corpus.manifest["tokenizer"]["vocab_size"] == largest
    corpus = prepare_spec(tmp_path, spec | {"output": "b", "sentencepiece": settings | {"allow_smaller": True}})
    assert corpus.tokenizer.vocab_size == corpus.manifest["vocabulary"]["pieces"] <= largest
    assert f"vocabulary: {corpus.tokenizer.vocab_size} of 5000 pieces" in " ".join(corpus.manifest["warnings"])


def test_too_small_a_vocabulary(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, languages=("nso", "rus"))
    with pytest.raises(DataError, match=r"vocab_size: 275 is too small for the special, byte and language tokens"):
        prepare_spec(tmp_path, spec | {"sentencepiece": {"vocab_size": 275, "character_coverage": 1.0}})


def test_a_vocabulary_is_reused(tmp_path: Path) -> None:
    first = small_corpus(tmp_path, languages=("nso", "cat"))
    spec = small_spec(tmp_path, languages=("nso",), size=100)
    spec |= {"output": "second", "sentencepiece": {"model": "corpus/tokenizer.model"}}
    second = prepare_spec(tmp_path, spec)
    assert second.tokenizer.sha256 == first.tokenizer.sha256
    given = {"file": "corpus/tokenizer.model", "bytes": first.tokenizer.model_file.stat().st_size}
    assert given | {"sha256": first.tokenizer.sha256} in second.manifest["inputs"]
    assert (second.manifest["vocabulary"]["given"], first.manifest["vocabulary"]["given"]) == (given["file"], None)
    assert prepare_spec(tmp_path, spec).fingerprint == second.fingerprint
    other = small_corpus(tmp_path, languages=("nso", "cat"), size=300, output="other").tokenizer.model_file
    shutil.copy(other, first.tokenizer.model_file)
    with pytest.raises(DataError, match=r"was prepared before \S+corpus/tokenizer.model changed; add --overwrite"):
        prepare_spec(tmp_path, spec)
    spec["pairs"] = [{"pair": "eng-rus", "train": [write_pair(tmp_path, "train", "rus", range(100))]}]
    with pytest.raises(DataError, match=r"no token for language 'rus'; the vocabulary knows: cat, eng, nso"):
        prepare_spec(tmp_path, spec | {"output": "third"})


def test_too_many_pieces_are_dropped_and_counted(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, languages=("nso",))
    sentences = prepare_spec(tmp_path, spec).sentences("train", "eng-nso")
    limit = int(np.median(np.maximum(sentences.src_lengths, sentences.tgt_lengths)))
    spec |= {"output": "a", "clean": {"max_pieces": limit}}
    corpus = prepare_spec(tmp_path, spec)
    sentences = corpus.sentences("train", "eng-nso")
    lengths = np.concatenate([sentences.src_lengths, sentences.tgt_lengths])
    dropped = corpus.manifest["report"]["eng-nso"]["train"]["dropped"]["too_many_pieces"]
    assert lengths.max() == limit and len(sentences) + dropped + 30 == 400
    assert len(corpus.sentences("test", "eng-nso")) == len(held_out_text(corpus, "test", "eng-nso"))
    with pytest.raises(DataError, match=r"no sentence pairs in the train text of eng-nso: all exceed max_pieces 1"):
        prepare_spec(tmp_path, spec | {"output": "b", "clean": {"max_pieces": 1}})


def test_sentencepiece_sees_the_temperature_sample_and_no_held_out_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    train = sentencepiece.SentencePieceTrainer.train

    def spy(*, sentence_iterator: Any, **options: Any) -> None:
        seen.extend(sentence_iterator)
        train(sentence_iterator=iter(seen), **options)

    monkeypatch.setattr(sentencepiece.SentencePieceTrainer, "train", spy)
    corpus = small_corpus(tmp_path, languages=("nso", "rus"))
    held_out = {text for split in ("valid", "test") for pair in corpus.pairs
                for both in held_out_text(corpus, split, pair) for text in both}  # fmt: skip
    assert seen and not held_out & set(seen)
    cyrillic = sum("а" <= text.lower()[0] <= "я" for text in seen)
    assert cyrillic == corpus.manifest["vocabulary"]["sample"]["rus"]["sampled"]
    english = [text for text in seen if text in {sentence(number) for number in range(800)}]
    assert len(english) == len(set(english)) == corpus.manifest["vocabulary"]["sample"]["eng"]["sampled"]


def test_specification_written_by_the_helper_loads(tmp_path: Path) -> None:
    assert load_spec(write_spec(tmp_path, small_spec(tmp_path))).languages == ("cat", "eng", "nso")
