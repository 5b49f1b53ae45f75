"""``smoe-ds export --format``: other programs translate the same with what is written."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.decode.load import TrainedRun, load_translator
from tests.helpers.prepared import sentence
from tests.helpers.random_run import random_run
from tests.helpers.transformers_folder import CODES, m2m100_folder, saved_folder

LINES = [sentence(number) for number in range(0, 800, 16)]
LIKE_NLLB = {
    "model": {"position_offset": 2, "activation": "gelu"},
    "data": {"source_language_token": "source", "target_language_token": "after_end"},
}
SEARCH = ["smoe.decode.min_length=4", "smoe.decode.no_repeat_ngram=2", "smoe.decode.max_length_factor=3.0"]


def export(run_dir: Path, folder: Path, *arguments: object) -> int:
    options = [text for override in SEARCH for text in ("--set", override)]
    return main(["export", str(run_dir), "--output", str(folder), *options, *map(str, arguments)])


@pytest.fixture(scope="module", params=["m2m_100", "nllb-moe"])
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of theirs as a run folder, with a language more."""
    place = tmp_path_factory.mktemp("imported")
    folder = saved_folder(place / "theirs", request.param, rows=0, noise=0.25, ending=5.0)
    assert main(["import", str(folder), "--output", str(place / "ours"), "--add-language", "lug"]) == 0
    return place / "ours"


def their_translations(folder: Path, source: str, target: str, longest: int, *, fast: bool) -> list[str]:
    """By transformers alone: text in, text out, and the search as in the folder."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, src_lang=source, use_fast=fast)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    found = []
    for line in LINES:  # one by one, since the longest output depends on the source
        batch = tokenizer([line], return_tensors="pt")
        tokens = model.generate(
            **batch,
            forced_bos_token_id=tokenizer.convert_tokens_to_ids(target),
            max_new_tokens=3 * batch["input_ids"].shape[1] + 11,
        )
        found += tokenizer.batch_decode(tokens, skip_special_tokens=True) if 2 in tokens[0, 1:] else [None]
    return found


@pytest.mark.parametrize("fast", [False, True])
def test_transformers_translates_the_same(imported: Path, tmp_path: Path, fast: bool) -> None:
    assert export(imported, tmp_path / "out", "--format", "transformers") == 0
    ours = load_translator(imported, overrides=SEARCH, device="cpu").translate(LINES, "lug", "eng")
    theirs = their_translations(tmp_path / "out", "eng_Latn", "__lug__", 40, fast=fast)
    pairs = [(one.text, other) for one, other in zip(ours, theirs, strict=True) if other is not None]
    assert len(pairs) > 45
    assert len({text for text, _ in pairs}) > 20
    assert [one for one, _ in pairs] == [other.strip() for _, other in pairs]


def test_what_is_exported_can_be_imported_again(imported: Path, tmp_path: Path) -> None:
    table = tmp_path / "table"
    table.write_text("cat_Latn cat\neng_Latn eng\nnso_Latn nso\nrus_Cyrl rus\nlug_Latn lug\n")
    assert export(imported, tmp_path / "there", "--format", "transformers", "--languages", table) == 0
    assert main(["import", str(tmp_path / "there"), "--output", str(tmp_path / "back")]) == 0
    before, after = (TrainedRun(path, device="cpu") for path in (imported, tmp_path / "back"))
    assert set(after.tokenizer.languages) == set(before.tokenizer.languages)
    old, new = (run.weights(run.checkpoint()) for run in (before, after))
    assert old.keys() == new.keys()
    rows = {run: {s: i for i, (s, _) in enumerate(run.tokenizer.vocabulary())} for run in (before, after)}
    for spelling in set(rows[before]) - {s for s in rows[before] if s.startswith("<reserved_")}:
        pair = (old["embedding.weight"][rows[before][spelling]], new["embedding.weight"][rows[after][spelling]])
        assert torch.equal(*pair)
    assert all(torch.equal(old[name], new[name]) for name in old if name != "embedding.weight")
    assert after.config.smoe.moe == before.config.smoe.moe


@pytest.mark.parametrize("strata", [[], [4]])
def test_a_model_of_ours_is_one_of_theirs(
    corpus: Corpus, tmp_path: Path, strata: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the vocabulary of a corpus, which has pieces for bytes and reserved tokens."""
    moe = {"strata": strata, "expert_output_masking": 0.1, "combine_weights": "before_drop"}
    run_dir = random_run(tmp_path, corpus, **LIKE_NLLB, moe=moe)
    assert export(run_dir, tmp_path / "out", "--format", "transformers", "--dtype", "float32") == 0
    assert "wrote step 1, " in capsys.readouterr().err
    import transformers

    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", src_lang="__eng__")
    translator = load_translator(run_dir, device="cpu")
    languages = translator.languages("eng", "nso")
    lines = [*LINES[:2], "A smile 🙂, 你好."]
    pieces = [translator.tokenizer.encode(text) for text in lines]
    batch = translator._collate(pieces, [row[:4] for row in pieces], languages)
    theirs_in = tokenizer(lines, return_tensors="pt", padding=True)
    order = translator_order(tmp_path / "out", translator)
    assert order[batch.src].tolist() == theirs_in["input_ids"].tolist()
    with torch.inference_mode():
        theirs = model(**theirs_in, decoder_input_ids=order[batch.tgt_in]).logits[:, :, order]
        ours, _ = translator.model(batch.src, batch.tgt_in)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def translator_order(folder: Path, translator: Any) -> torch.Tensor:
    """Their id of each of ours."""
    from smoe_ds.huggingface.exported_tokenizer import exported_tokenizer

    order = exported_tokenizer(translator.tokenizer, {}).order
    place = torch.empty(len(order), dtype=torch.long)
    place[torch.tensor(order)] = torch.arange(len(order))
    return place


@pytest.mark.parametrize("fast", [False, True])
def test_words_that_contain_the_name_of_a_language_stay_whole(corpus: Corpus, tmp_path: Path, fast: bool) -> None:
    """Tokenizers of transformers cut text at every special token, so none may be spelt as a part of a word."""
    import transformers

    run_dir = random_run(tmp_path, corpus, **LIKE_NLLB, moe={"strata": []})
    assert export(run_dir, tmp_path / "out", "--format", "transformers") == 0
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", src_lang="__eng__", use_fast=fast)
    order = translator_order(tmp_path / "out", load_translator(run_dir, device="cpu"))
    for text in (f"str{name}th {name} {name}ish" for name in corpus.tokenizer.languages):
        ids = order[corpus.tokenizer.encode(text)].tolist()
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids
    assert main(["import", str(tmp_path / "out"), "--output", str(tmp_path / "back")]) == 0
    assert TrainedRun(tmp_path / "back", device="cpu").tokenizer.languages == corpus.tokenizer.languages


def language_tokens_of(folder: Path) -> list[str]:
    return json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["additional_special_tokens"]


def test_codes_go_wherever_the_vocabulary_goes(imported: Path, corpus: Corpus, tmp_path: Path) -> None:
    """Into a run trained on with it, into exports of ours, into what is made of those."""
    tokenizer = Tokenizer(imported / "tokenizer.model")
    with_it = cast(Corpus, SimpleNamespace(path=corpus.path, tokenizer=tokenizer))
    trained = random_run(tmp_path, with_it, **LIKE_NLLB, moe={"strata": []})
    assert export(trained, tmp_path / "ours") == 0
    sources = [trained, tmp_path / "ours"]
    if TrainedRun(imported, device="cpu").config.smoe.moe.is_dense:
        moe = [text for key in ("strata=[2]", "top_k=2") for text in ("--set", f"smoe.moe.{key}")]
        upcycled = ["upcycle", str(imported), *moe, "--method", "copy", "--output", str(tmp_path / "upcycled")]
        assert main(upcycled) == 0
        sources.append(tmp_path / "upcycled")
    for number, source in enumerate(sources):
        assert export(source, tmp_path / str(number), "--format", "transformers") == 0
        assert language_tokens_of(tmp_path / str(number)) == [*CODES, "__lug__"]


def test_m2m100_goes_out_with_the_codes_it_came_with(tmp_path: Path) -> None:
    import transformers

    folder = m2m100_folder(tmp_path / "theirs")
    there = transformers.M2M100Tokenizer.from_pretrained(folder)
    table = tmp_path / "table"
    table.write_text("__ca__ cat\nen eng\n")
    assert main(["import", str(folder), "--output", str(tmp_path / "ours"), "--languages", str(table)]) == 0
    ours = TrainedRun(tmp_path / "ours", device="cpu").tokenizer
    assert {"cat", "eng", "ns"} <= set(ours.languages)
    assert export(tmp_path / "ours", tmp_path / "out", "--format", "transformers") == 0
    back = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", src_lang="__en__")
    assert set(language_tokens_of(tmp_path / "out")) == set(there.lang_token_to_id)
    text = "afternoon bread often isis"
    assert back.tokenize(text) == there.tokenize(text)
    assert main(["import", str(tmp_path / "out"), "--output", str(tmp_path / "back"), "--languages", str(table)]) == 0
    assert TrainedRun(tmp_path / "back", device="cpu").tokenizer.languages == ours.languages


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("x_Latn xyz\n", "the vocabulary has no language 'xyz'; its languages are cat, eng"),
        ("cat_Latn eng\n", "cat and eng would both be cat_Latn; give one another code"),
        ("cat_Latn lug\ncat_Latn nso\n", "line 2: cat_Latn nso: its code or its name is on an earlier line"),
        ("x_Latn lug\ny_Latn lug\n", "line 2: y_Latn lug: its code or its name is on an earlier line"),
        ("</s> lug\n", "'</s>' is not a code of a language; expected one such as cat_Latn or ca"),
    ],
)
def test_a_table_of_codes_is_checked(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, message: str
) -> None:
    file = tmp_path / "table"
    file.write_text(table)
    assert export(imported, tmp_path / "out", "--format", "transformers", "--languages", file) == 2
    printed = capsys.readouterr().err
    assert f"{file}: {message}" in printed and printed.count("\n") == 1
    assert list(tmp_path.iterdir()) == [file]


def test_a_table_of_codes_leaves_the_others_as_they_were(imported: Path, tmp_path: Path) -> None:
    (tmp_path / "table").write_text("lg lug\n")
    assert export(imported, tmp_path / "out", "--format", "transformers", "--languages", tmp_path / "table") == 0
    assert language_tokens_of(tmp_path / "out") == [*CODES, "__lg__"]


@pytest.mark.parametrize("like", ["ours", "bos", "nllb", "small_100"])
def test_ctranslate2_translates_the_same(corpus: Corpus, tmp_path: Path, like: str) -> None:
    import ctranslate2

    sections: dict[str, Any] = {
        "ours": {"model": {"norm_epsilon": 0.1}},
        "bos": {"data": {"target_language_token": False}},
        "nllb": LIKE_NLLB,
        "small_100": {"data": {"target_language_token": "end"}},
    }[like]
    run_dir = random_run(tmp_path, corpus, moe={"strata": []}, **sections)
    assert export(run_dir, tmp_path / "out", "--format", "ctranslate2") == 0
    overrides = ["smoe.decode.beam_size=1", "smoe.decode.max_length_factor=0.01", *SEARCH[:2]]
    translator = load_translator(run_dir, overrides=overrides, device="cpu")
    tokens = [spelling for spelling, _ in translator.tokenizer.vocabulary()]
    before = ["<2eng>"] if like == "nllb" else ["<2nso>"]
    prefix = ["<2nso>"] if like in ("ours", "nllb") else []
    sources = [[*before, *(tokens[i] for i in row), "</s>"] for row in translator.encoded(LINES)]
    theirs = ctranslate2.Translator(str(tmp_path / "out"), compute_type="float32", intra_threads=1)
    options = {
        "beam_size": 1,
        "min_decoding_length": 4 + len(prefix) * (like == "nllb"),
        "max_decoding_length": 9 + (like == "nllb"),
        "suppress_sequences": [[tokens[index]] for index in translator.special.forbidden if index != 3],
        "no_repeat_ngram_size": 2,
        "disable_unk": True,
    }
    found = theirs.translate_batch(sources, target_prefix=[prefix] * len(sources) if prefix else None, **options)
    answers = [one.tokens for one in translator.translate(LINES, "nso", "eng")]
    ours = [[tokens[i] for i in row] for row in answers]
    texts = [one.hypotheses[0] for one in found]
    cut = [[token for token in text if token not in prefix][:9] for text in texts]
    assert min(map(len, cut)) >= 4
    assert len({tuple(row) for row in ours}) > 10
    assert [row[: len(other)] for row, other in zip(ours, cut, strict=True)] == cut
    scored = theirs.score_batch(sources, [[*prefix, *row] for row in ours])
    totals = [sum(one.log_probs[like == "nllb" :]) for one in scored]  # the language there is predicted too
    assert totals == pytest.approx(translator.score(LINES, answers, "nso", 0.0, "eng"), rel=1e-4)


@pytest.mark.parametrize(
    ("sections", "arguments", "message"),
    [
        ({}, "transformers", "encoder.layers.1.ffn has strata [2, 2], and in no model there does a token pass one"),
        ({}, "ctranslate2", "has strata [2, 2], and in no model there"),
        ({"moe": {"strata": [4]}}, "ctranslate2", "the model has experts, which CTranslate2 does not compute"),
        ({"moe": {"strata": []}}, "transformers", "position_offset is 0, and m2m_100 counts positions from 2"),
        (
            {"moe": {"strata": []}, "model": {"position_offset": 2}},
            "transformers",
            "smoe.data.source_language_token is True, and tokenizers there frame sentences as with source",
        ),
        (
            LIKE_NLLB | {"moe": {"strata": []}, "data": {"target_language_token": "end"}},
            "transformers",
            "smoe.data.source_language_token is True, and tokenizers there",
        ),
        (
            LIKE_NLLB | {"moe": {"strata": []}, "model": {"position_offset": 2, "norm_epsilon": 1e-6}},
            "transformers",
            "smoe.model.norm_epsilon is 1e-06, and m2m_100 has 1e-05",
        ),
        (LIKE_NLLB | {"moe": {"strata": [4], "top_k": 1}}, "transformers", "router is top_k with top_k 1"),
        (
            LIKE_NLLB | {"moe": {"strata": [4], "layers": {"encoder.1": {"strata": [3]}}}},
            "transformers",
            "has other settings than",
        ),
        (LIKE_NLLB | {"moe": {"strata": [4], "shared_expert": "cmr"}}, "transformers", "shared_expert is 'cmr'"),
        (
            LIKE_NLLB | {"moe": {"strata": []}, "model": {"position_offset": 2, "activation": "swiglu"}},
            "transformers",
            "activation is swiglu",
        ),
        ({"moe": {"strata": []}}, "ctranslate2 --keep-experts 1", "whole models only"),
        ({"moe": {"strata": []}}, "ctranslate2 --languages x", "only --format transformers has codes"),
    ],
)
def test_what_others_cannot_compute_is_refused_with_what_to_do(
    corpus: Corpus,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sections: dict[str, Any],
    arguments: str,
    message: str,
) -> None:
    run_dir = random_run(tmp_path, corpus, **sections)
    assert export(run_dir, tmp_path / "out", "--format", *arguments.split()) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_ctranslate2_that_is_missing_is_said(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("ctranslate2"):
            raise ImportError("No module named 'ctranslate2'")
        return find(name, *rest)

    run_dir = random_run(tmp_path, corpus, moe={"strata": []})
    monkeypatch.setattr(builtins, "__import__", missing)
    assert export(run_dir, tmp_path / "out", "--format", "ctranslate2") == 2
    assert "install it with: pip install 'smoe_ds[ctranslate2]'" in capsys.readouterr().err
