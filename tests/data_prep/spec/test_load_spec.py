"""The specification: what is refused, in one line each with the key and the remedy; overrides; the shipped example."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from data_prep.readers import KINDS
from data_prep.spec.load_spec import load_spec
from data_prep.spec.sections import Spec
from smoe_ds.errors import ConfigError
from tests.helpers.environment import ROOT

EXAMPLE = ROOT / "data_prep" / "example.yaml"
MINIMAL = "output: x\npairs: [{pair: eng-nso, train: [{src: a, tgt: b}]}]\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_spells_out_the_defaults() -> None:
    spec = load_spec(EXAMPLE)
    minimal = Spec.model_validate(yaml.safe_load(MINIMAL))
    assert (spec.held_out, spec.clean, spec.sentencepiece, spec.shards, spec.seed) == (
        minimal.held_out, minimal.clean, minimal.sentencepiece, minimal.shards, minimal.seed,
    )  # fmt: skip
    text = EXAMPLE.read_text(encoding="utf-8")
    for section in ("held_out", "clean", "sentencepiece", "shards"):
        assert all(f"{key}:" in text for key in type(getattr(spec, section)).model_fields), section
    assert {type(source) for source in spec.pairs[0].train} == set(KINDS.values())


def test_languages_and_key_language(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, MINIMAL))
    assert spec.languages == ("eng", "nso") and spec.key_language(spec.pairs[0]) == "eng"
    spec = load_spec(write(tmp_path, MINIMAL.replace("eng-nso", "nso-eng") + "pivot: eng\n"))
    assert spec.key_language(spec.pairs[0]) == "eng" and spec.pairs[0].languages == ("nso", "eng")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "claen: {}\n", r"spec.yaml: claen: unknown key; did you mean clean\?"),
        (MINIMAL + "zzz: {}\n", "known here: output, pivot, seed, pairs, pair_list, held_out, "),
        (MINIMAL + "clean: {max_word: 3}\n", r"clean.max_word: unknown key; did you mean max_words\?"),
        (MINIMAL + "held_out: {zzz: 3}\n", r"held_out.zzz: unknown key; known here: valid, test, max_fraction"),
        (MINIMAL.replace("tgt: b", "trg: b"), r"pairs\[0\].train\[0\].trg: unknown key; did you mean tgt\?"),
        (MINIMAL.replace(", tgt: b", ""), r"pairs\[0\].train\[0\].tgt: missing; File of the pair's second language"),
        (
            MINIMAL.replace("src: a, tgt: b", "file: a"),
            r"pairs\[0\].train\[0\]: a source is \{src: FILE, tgt: FILE\}, ",
        ),
        (
            MINIMAL.replace("src: a, tgt: b", "tsv: a, columns: [1, 1]"),
            r"columns \[1, 1\] must be two different numbers",
        ),
        (
            MINIMAL.replace("src: a, tgt: b", "tmx: a, languages: [en]"),
            r"languages \['en'\] must be two different texts",
        ),
        (MINIMAL.replace("src: a, tgt: b", "jsonl: a, keys: [en, en]"), r"keys \['en', 'en'\] must be two different"),
        (
            MINIMAL.replace("src: a, tgt: b", "jsonl: a, kyes: [a, b]"),
            r"train\[0\].kyes: unknown key; did you mean keys",
        ),
        (MINIMAL.replace("src: a, tgt: b", "mo: a, msgid: cat"), "msgid 'cat' is not a language of the pair eng-nso"),
        (MINIMAL.replace("[{src: a, tgt: b}]", "[]"), r"pairs\[0\]: pair eng-nso has no text; give it train, or"),
        (MINIMAL.replace("[{src: a, tgt: b}]", "a.tsv"), r"pairs\[0\].train: .*found \"a.tsv\""),
        ("output: x\npairs: []\n", "no pairs; write them under 'pairs', or name a known corpus under 'pair_list'"),
        (
            "output: x\npairs: [{pair: eng-nso, test: {tsv: a}}]\n",
            "no pair has training text; give at least one 'train'",
        ),
        (MINIMAL + "pair_list: {name: m16, root: x}\n", r"pair_list.name: Input should be 'm4', 'm15' or 'opus100'"),
        (MINIMAL + "pair_list: {name: m15, rot: x}\n", r"pair_list.rot: unknown key; did you mean root\?"),
        (
            MINIMAL.replace("}]}]", "}], expect: {trian: 3}}]"),
            r"pairs\[0\].expect.trian: unknown key; did you mean train\?",
        ),
        ("pairs: [{pair: eng-nso, train: [{tsv: a}]}]", "output: missing; Folder to write"),
        (MINIMAL.replace("eng-nso", "eng_nso"), "'eng_nso' is not two language codes joined by '-'"),
        (MINIMAL.replace("eng-nso", "eng-zho-Hant"), "'eng-zho-Hant' is not two language codes.*inside a code write _"),
        (MINIMAL.replace("eng-nso", "eng-eng"), "'eng-eng' pairs a language with itself"),
        (MINIMAL.replace("eng-nso", "eng-en"), "'eng-en' pairs a language with itself, by two codes of it; .*zho_Hans"),
        (MINIMAL.replace("eng-nso", "no"), r"pairs\[0\].pair: .*found false .*quote them"),
        (MINIMAL + "pivot: cat\n", "pair eng-nso lacks the pivot cat"),
        ("output: x\npairs: [&a {pair: eng-nso, train: [{tsv: a}]}, *a]\n", "pair eng-nso is given twice"),
        ("output: x\npairs: [{pair: eng-nso, train: [{tsv: a}]}, {pair: nso-eng, train: [{tsv: a}]}]\n", "given twice"),
        (MINIMAL + "clean: {copies: remove}\n", r"clean.copies: Input should be 'drop' or 'keep', found \"remove\""),
        (MINIMAL + "seed: '1'\n", r"seed: Input should be a valid integer, found \"1\" \(text\)"),
        (MINIMAL + "sentencepiece: {vocab_size: 10}\n", r"sentencepiece.vocab_size: .*greater than or equal to 270"),
        (MINIMAL + "output: y\n", r"not YAML: key 'output' is written twice.*line 3"),
        ("output: [", "spec.yaml: not YAML: "),
        ("output: 2024-13-45", "spec.yaml: not YAML: month must be in 1..12"),
        ("[" * 5000, "spec.yaml: YAML that cannot be read: its brackets or lists are nested too deeply"),
        (MINIMAL + "left_out: [a]\n", "spec.yaml: left_out: is filled in by the program; remove it"),
        (
            MINIMAL + "sentencepiece: {vocab_size: 3000000000}\n",
            "vocab_size: .* less than or equal to 1000000, found 3",
        ),
        (MINIMAL + "clean: {max_characters: 1000000000}\n", "clean.max_characters: .* less than or equal to 1000000, "),
        (MINIMAL + f"clean: {{max_words: {'9' * 18}}}\n", "clean.max_words: .* less than or equal to 1000000, "),
        (MINIMAL + f"clean: {{max_pieces: {'9' * 18}}}\n", "clean.max_pieces: .* less than or equal to 1000000, "),
        (MINIMAL + "sentencepiece: {temperature: 1e9}\n", r'temperature: .* found "1e9" \(text\); write 1000000000$'),
        (MINIMAL + "clean: {min_script_share: 25e-2}\n", r"found \S+ \(text\); write 0.250000"),
        (MINIMAL + "x: &a {min_words: 2, min_words: 3}\nclean: {<<: *a}\n", "key 'min_words' is written twice.*line 3"),
        ("- a\n", r"expected keys such as output and pairs, found \[\"a\"\]"),
        ("", "found null"),
    ],
)
def test_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_spec(write(tmp_path, text))


def test_all_problems_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_spec(write(tmp_path, MINIMAL + "seed: -1\nclean: {a: 1}\n"))
    assert len(caught.value.problems) == 2


def test_missing_specification(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone.yaml: No such file or directory; expected a corpus specification"):
        load_spec(tmp_path / "gone.yaml")


def test_mappings_may_be_merged(tmp_path: Path) -> None:
    """YAML's ``<<``: keys of the mapping itself count; a base that merges another one is no key written twice."""
    text = """
output: x
pairs:
- &first {pair: eng-nso, train: &train {tsv: a.tsv, columns: [1, 2]}, group: low}
- &second {<<: *first, pair: eng-cat, train: {<<: *train, tsv: b.tsv}}
- {<<: *second, pair: eng-msa}
"""
    pairs = load_spec(write(tmp_path, text)).pairs
    assert [(pair.pair, pair.group, pair.train[0].tsv, pair.train[0].columns) for pair in pairs] == [
        ("eng-nso", "low", "a.tsv", [1, 2]), ("eng-cat", "low", "b.tsv", [1, 2]), ("eng-msa", "low", "b.tsv", [1, 2]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "hint"),
    [("opus", "; did you mean opus100?"), ("M4", "; did you mean m4?"), ("zzz", "")],
)
def test_corpora_known_by_name_are_hinted_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    known = ", or the name of a known corpus (m15, m4, opus100)" + hint
    with pytest.raises(ConfigError) as caught:
        load_spec(Path(name))
    assert str(caught.value) == (
        f"{Path(name)}: No such file or directory; expected a corpus specification in YAML{known}"
    )


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    spec = load_spec(path, ["sentencepiece.vocab_size=4000", "clean.max_ratio=null", "output=y=z", "pivot=eng"])
    assert (spec.sentencepiece.vocab_size, spec.clean.max_ratio, spec.output, spec.pivot) == (4000, None, "y=z", "eng")
    for override, message in (
        ("vocab_size", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("output.x=3", "output is not a section; sections are held_out, clean, sentencepiece, shards, pair_list$"),
        ("pairs.0.pair=x", "pairs is a list, and --set cannot change its entries; change them in the file"),
        ("pairs[0].pair=x", "pairs is a list, and --set cannot"),
        ("seed=[", "value is not YAML"),
        ("sentencepiece.vocabsize=3", r"sentencepiece.vocabsize: unknown key; did you mean vocab_size\?"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_spec(path, [override])


def test_names_of_files_are_read_as_in_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch")
    monkeypatch.delenv("UNSET", raising=False)
    text = """
output: $SCRATCH/out
sentencepiece: {model: ~/t.model}
pairs:
- {pair: eng-nso, train: [{src: ~/a, tgt: "${SCRATCH}/b"}, {tsv: $SCRATCH/c}, {tmx: ~/d}, {jsonl: ~/e}, {mo: ~/f},
   {po: ~/g}, {mediawiki: {src: ~/h, tgt: $SCRATCH/i}}, {tsv: a~/$UNSET/US$}]}
"""
    spec = load_spec(write(tmp_path, text))
    assert (spec.output, spec.sentencepiece.model) == ("/scratch/out", "/home/me/t.model")
    assert [name for source in spec.pairs[0].sources for name in source.files()] == [
        "/home/me/a", "/scratch/b", "/scratch/c", "/home/me/d", "/home/me/e", "/home/me/f", "/home/me/g", "/home/me/h",
        "/scratch/i", "a~/$UNSET/US$",
    ]  # fmt: skip
    for wrong, message in (
        ("~nosuchuser/a", r"'~nosuchuser/a': .*; write the folder out"),
        (r'"a\0b"', "a NUL byte is in no"),
    ):
        with pytest.raises(ConfigError, match=rf"pairs\[0\].train\[0\].src: {message}"):
            load_spec(write(tmp_path, MINIMAL.replace("src: a", f"src: {wrong}")))
