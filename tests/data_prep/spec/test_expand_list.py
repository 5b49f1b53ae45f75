"""Lists become pairs of a specification: every file found, whatever it is compressed with, or named with its place."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from data_prep.check_files import check_files
from data_prep.cli import main
from data_prep.spec.list_warnings import list_warnings
from data_prep.spec.load_spec import find_spec, load_spec
from data_prep.spec.pair_lists import listed_corpus
from data_prep.spec.sections import Spec
from smoe_ds.config import load_run
from smoe_ds.errors import ConfigError, DataError
from tests.helpers.environment import ROOT
from tests.helpers.listed import write, write_nllb, write_opus100
from tests.helpers.prepared import write_spec


def load(folder: Path, name: str, overrides: tuple[str, ...] = (), **settings: Any) -> Spec:
    spec = {"output": "out", "pair_list": {"name": name, "root": "data", **settings}}
    return load_spec(write_spec(folder, spec), overrides)


def files(spec: Spec, pair: str, split: str) -> list[tuple[str, str]]:
    found = next(entry for entry in spec.pairs if entry.pair == pair)
    return [(source.src, source.tgt) for source in getattr(found, split)]


def test_all_of_opus100(tmp_path: Path) -> None:
    write_opus100(tmp_path / "data")
    spec = load(tmp_path, "opus100")
    check_files(spec, tmp_path)
    assert (len(spec.pairs), len(spec.languages), spec.pivot, spec.left_out) == (114, 100, "en", [])
    folder = "data/v1.0/supervised/en-zu/opus.en-zu"
    assert files(spec, "en-zu", "train") == [(f"{folder}-train.en", f"{folder}-train.zu")]
    assert files(spec, "en-zu", "valid") == [(f"{folder}-dev.en", f"{folder}-dev.zu")]
    assert files(spec, "ar-de", "test") == [
        tuple(f"data/v1.0/zero-shot/ar-de/opus.ar-de-test.{x}" for x in ("ar", "de"))
    ]
    by_name = {pair.pair: pair for pair in spec.pairs}
    assert (by_name["ar-de"].train, by_name["ar-de"].valid, by_name["an-en"].test) == ([], [], [])
    assert [by_name[name].group for name in ("an-en", "en-si", "en-ml", "en-zu")] == [None, "high", "medium", "low"]
    assert sum(1 for pair in spec.pairs if pair.train and pair.test and pair.valid) == 94
    assert len(load(tmp_path, "opus100", zero_shot=False).pairs) == 99
    scored = load(tmp_path, "opus100", scored_only=True).pairs
    assert scored == [pair for pair in spec.pairs if pair.test] and sum(bool(pair.train) for pair in scored) == 94
    assert load(tmp_path, "opus100", root="data/v1.0").pairs == spec.pairs
    (tmp_path / "data").rename(tmp_path / "opus-100-corpus")
    assert len(load(tmp_path, "opus100", root=".").pairs) == 114


def test_compressed_files_are_found(tmp_path: Path) -> None:
    write_opus100(tmp_path / "data")
    path = tmp_path / "data/v1.0/supervised/en-zu/opus.en-zu-train.zu"
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=r"train.zu.gz: there is data/\S+-train.zu for the same side of the same text"):
        load(tmp_path, "opus100")
    path.unlink()
    assert files(load(tmp_path, "opus100"), "en-zu", "train")[0][1].endswith("opus.en-zu-train.zu.gz")


def test_every_missing_file_is_named_with_its_place(tmp_path: Path) -> None:
    write_opus100(tmp_path / "data")
    gone = ["supervised/en-zu/opus.en-zu-train.zu", "supervised/en-zu/opus.en-zu-dev.en",
            "zero-shot/nl-ru/opus.nl-ru-test.nl"]  # fmt: skip
    for name in gone:
        (tmp_path / "data/v1.0" / name).unlink()
    with pytest.raises(DataError) as caught:
        load(tmp_path, "opus100")
    lines = str(caught.value).splitlines()
    assert len(lines) == 4 and "3 files missing from OPUS-100 v1.0" in lines[0] and "leave_out" in lines[0]
    for name, archive in zip(gone, ("en-zu", "en-zu", "zeroshot"), strict=True):
        assert [line for line in lines if f"data/v1.0/{name}: https://" in line and f"corpus-{archive}-v1.0" in line]
    spec = load(tmp_path, "opus100", missing="leave_out")
    assert len(spec.pairs) == 112 and not {"en-zu", "nl-ru"} & {pair.pair for pair in spec.pairs}
    assert [text.split(":")[0] for text in spec.left_out] == ["en-zu", "nl-ru"]
    assert f"lacks data/v1.0/{gone[2]}" in spec.left_out[1]


@pytest.mark.parametrize(
    ("name", "number"), [("opus100", 99 * 2 + 94 * 4 + 15 * 2), ("m4", 4 + 2 * 5), ("m15", 15 + 2 * 16)]
)
def test_nothing_there(tmp_path: Path, name: str, number: int) -> None:
    """Every file once, FLORES-200's English too; also where only complete pairs are asked for."""
    for missing in ("refuse", "leave_out"):
        with pytest.raises(DataError, match=f"pair_list {name}: {number} files? missing from") as caught:
            load(tmp_path, name, missing=missing)
        lines = str(caught.value).splitlines()[1:]
        assert len(set(lines)) == number and all("https://" in line for line in lines)


def test_only_some_languages(tmp_path: Path) -> None:
    write_opus100(tmp_path / "data")
    spec = load(tmp_path, "opus100", only=["de", "fr", "zu"])
    assert [pair.pair for pair in spec.pairs] == ["de-en", "en-fr", "en-zu", "de-fr"]
    assert [pair.pair for pair in load(tmp_path, "opus100", ("pair_list.only=[zu]",)).pairs] == ["en-zu"]


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (["nso", "tgll"], r"pair_list.only: m15 has no language 'tgll'; did you mean tgl\?"),
        (["zzz"], "m15 has no language 'zzz'; it has cat, eng, fao"),
        (["eng"], "no pair of m15 is left; name a language besides eng"),
        ([], "no pair of m15 is left"),
    ],
)
def test_a_language_nobody_knows(tmp_path: Path, only: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, "m15", only=only)


def test_a_folder_nobody_knows_is_reported(tmp_path: Path) -> None:
    write_opus100(tmp_path / "data")
    (tmp_path / "data/v1.0/supervised/en-zuu").mkdir()
    spec = load(tmp_path, "opus100")
    assert spec.left_out == ["en-zuu: data/v1.0/supervised/en-zuu is not a pair of opus100; is it en-zu?"]


@pytest.mark.parametrize("name", ["m4", "m15"])
def test_nllb_folders_and_flores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_nllb(tmp_path / "data", name)
    spec = load(tmp_path, name)
    check_files(spec, tmp_path)
    assert [pair.pair for pair in spec.pairs] == list(listed_corpus(name).pairs) and spec.pivot == "eng"
    folder = "data/made/eng-msa/made.eng-msa"
    assert files(spec, "eng-msa", "train") == [(f"{folder}.eng", f"{folder}.msa")]
    flores = "data/flores200_dataset"
    assert files(spec, "eng-msa", "valid") == [(f"{flores}/dev/eng_Latn.dev", f"{flores}/dev/zsm_Latn.dev")]
    assert files(spec, "eng-msa", "test") == [
        (f"{flores}/devtest/eng_Latn.devtest", f"{flores}/devtest/zsm_Latn.devtest")
    ]
    (tmp_path / "data/flores200_dataset").rename(tmp_path / "flores")
    assert files(load(tmp_path, name, flores="flores"), "eng-msa", "valid")[0][0] == "flores/dev/eng_Latn.dev"
    monkeypatch.setenv("HOME", str(tmp_path))
    found = load(tmp_path, name, root="~/data", flores="$HOME/flores")
    assert files(found, "eng-msa", "train")[0][0] == f"{tmp_path}/{folder}.eng"
    assert files(found, "eng-msa", "valid")[0][0] == f"{tmp_path}/flores/dev/eng_Latn.dev"


def test_corpora_may_name_languages_and_folders_in_other_ways(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_nllb(data, "m4")
    for number, name in enumerate([
        "tico/eng-msa/tico19.eng-msa.eng", "tico/eng-msa/tico19.eng-msa.msa",
        "seed/zsm_Latn-eng_Latn/seed.zsm_Latn", "seed/zsm_Latn-eng_Latn/seed.eng_Latn",
        "opus/Ubuntu.en-ms.en", "opus/Ubuntu.en-ms.ms", "opus/Ubuntu.en-tl.en", "opus/Ubuntu.en-tl.tl",
        "opus/README", "opus/other.fr-ms.fr", "opus/other.fr-ms.ms",
    ]):  # fmt: skip
        write(data / name, [str(number)])
    spec = load(tmp_path, "m4")
    assert files(spec, "eng-msa", "train") == [
        ("data/made/eng-msa/made.eng-msa.eng", "data/made/eng-msa/made.eng-msa.msa"),
        ("data/opus/Ubuntu.en-ms.en", "data/opus/Ubuntu.en-ms.ms"),
        ("data/seed/zsm_Latn-eng_Latn/seed.eng_Latn", "data/seed/zsm_Latn-eng_Latn/seed.zsm_Latn"),
        ("data/tico/eng-msa/tico19.eng-msa.eng", "data/tico/eng-msa/tico19.eng-msa.msa"),
    ]
    assert len(files(spec, "eng-tgl", "train")) == 2 and len(files(spec, "eng-nso", "train")) == 1
    (data / "opus/Ubuntu.en-tl.tl").unlink()
    with pytest.raises(
        DataError, match=r"1 file missing from NLLB .*\n  \S+/data/opus/Ubuntu.en-tl.tgl: .*https://tico-19.github.io"
    ):
        load(tmp_path, "m4")
    write(data / "opus/Ubuntu.en-tl.tgl", ["x"])
    (data / "opus/Ubuntu.en-ms.ms.gz").write_bytes(gzip.compress(b"x\n"))
    with pytest.raises(DataError, match=r"Ubuntu.en-ms.ms.gz: there is data/opus/Ubuntu.en-ms.ms for the same side"):
        load(tmp_path, "m4")


def test_nllb_seed_as_released(tmp_path: Path) -> None:
    """Files named by the code alone; what is no text is named, whether other text of the pair is there or not."""
    data, seed = tmp_path / "data", "data/NLLB-Seed/eng_Latn-fur_Latn"
    write_nllb(data, "m15")
    write(tmp_path / seed / "eng_Latn", ["a"])
    write(tmp_path / seed / "fur_Latn.gz", ["b"])
    spec = load(tmp_path, "m15", only=["fur"])
    assert files(spec, "eng-fur", "train")[0] == (f"{seed}/eng_Latn", f"{seed}/fur_Latn.gz")
    assert len(files(spec, "eng-fur", "train")) == 2 and spec.left_out == []
    (tmp_path / seed / "fur_Latn.gz").rename(tmp_path / seed / "furlan.txt")
    with pytest.raises(DataError, match=rf"1 file missing .*\n  {tmp_path}/{seed}/fur: NLLB's public .*nllb_seed\n"
                       rf"  eng-fur: not read: {seed}/furlan.txt; a text is named CODE or NAME.CODE"):  # fmt: skip
        load(tmp_path, "m15", only=["fur"])
    (tmp_path / seed / "eng_Latn").rename(tmp_path / seed / "english.txt")
    assert load(tmp_path, "m15", only=["fur"]).left_out == [
        f"eng-fur: not read: {seed}/english.txt, {seed}/furlan.txt; a text is named CODE or NAME.CODE, with a CODE of "
        "eng, eng_Latn, en, fur, fur_Latn"
    ]


def test_pairs_of_ones_own_beside_the_list(tmp_path: Path) -> None:
    write_nllb(tmp_path / "data", "m4")
    own = {"pair": "eng-zul", "train": [{"tsv": "zulu.tsv"}]}
    spec = {"output": "out", "pairs": [own], "pair_list": {"name": "m4", "root": "data"}}
    assert [pair.pair for pair in load_spec(write_spec(tmp_path, spec)).pairs][:2] == ["eng-zul", "eng-nso"]
    own["pair"] = "eng-cat"
    with pytest.raises(ConfigError, match="pair eng-cat is given twice"):
        load_spec(write_spec(tmp_path, spec))


@pytest.mark.parametrize("name", ["m4", "m15", "opus100"])
def test_the_shipped_specifications_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With the paper's vocabularies; their paths are relative to the current folder, or to that of a copy."""
    if name == "opus100":
        write_opus100(tmp_path / "data/opus-100-corpus")
    else:
        write_nllb(tmp_path / "data/nllb", name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # a folder of that name
    file, base = find_spec(Path(name))
    spec = load_spec(file, base=base)
    assert find_spec(file) == (file, tmp_path)  # by its path too
    run = load_run(ROOT / f"ds_configs/{name}.json")
    assert base == tmp_path and spec.output == run.smoe.data.path == f"data/{name}"
    check_files(spec, base)
    assert spec.sentencepiece.vocab_size == (64_000 if name == "opus100" else 32_000)
    listed = listed_corpus(name).pairs
    assert [pair.pair for pair in spec.pairs] == [pair for pair, entry in listed.items() if entry.test is not None]
    assert sum(bool(pair.train) for pair in spec.pairs) == {"m4": 4, "m15": 15, "opus100": 94}[name]
    copy = tmp_path / "copy.yaml"
    copy.write_bytes(file.read_bytes())
    monkeypatch.chdir("/")
    assert find_spec(copy) == (copy, tmp_path) and load_spec(copy) == spec
    with pytest.raises(DataError, match=f"pair_list {name}: .* missing from"):
        load_spec(copy, [f"pair_list.root={tmp_path}/nowhere"])


def test_a_corpus_by_name_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nllb(tmp_path / "here", "m4")
    monkeypatch.chdir(tmp_path)
    arguments = ["m4", "--quiet", "--set", "sentencepiece.allow_smaller=true"]
    assert main(arguments) == 2
    assert f"  {tmp_path}/data/nllb/flores200_dataset/dev/nso_Latn.dev: FLORES-200, https://" in capsys.readouterr().err
    for done in ("prepared", "already prepared, verified"):
        assert main([*arguments, "--set", "pair_list.root=here"]) == 0
        assert f"\n{done}: {tmp_path / 'data/m4'}: 12 training pairs, 5 languages" in capsys.readouterr().out
    assert main(["m5"]) == 2
    assert "m5: No such file or directory" in capsys.readouterr().err


def test_line_counts_are_held_against_the_list(tmp_path: Path) -> None:
    write_nllb(tmp_path / "data", "m4")
    spec = load(tmp_path, "m4", only=["nso"])
    right = {"train": {"read": 500_000}, "valid": {"read": 997}, "test": {"read": 1012}}
    assert list(list_warnings(spec, {"eng-nso": right})) == []
    wrong = {"train": {"read": 400_000}, "valid": {"read": 998}, "test": {"drawn": 7}}
    assert list(list_warnings(spec, {"eng-nso": wrong})) == [
        "eng-nso train: 400,000 lines read, expected 526,000 (within 15%)",
        "eng-nso valid: 998 lines read, expected 997",
        "eng-nso test: 0 lines read, expected 1,012",
    ]
