"""Specifications that nobody would write: the project's own errors, soon, and nothing read that is no specification."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_prep.spec.load_spec import LARGEST_FILE, find_spec, load_spec
from smoe_ds.config.problems import MOST_PROBLEMS
from smoe_ds.errors import ConfigError, DataError
from tests.data_prep.spec.test_load_spec import EXAMPLE, MINIMAL, write
from tests.helpers.mutations import VALUES, changed_text, changed_tree, within

LISTED = "output: x\npair_list: {name: opus100, root: opus, only: [af], missing: leave_out}\n"
MERGES = "\n".join(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 90)}]}}" for n in range(1, 9))


def refused(path: Path, *overrides: str) -> list[str]:
    with within(3, str(path)), pytest.raises(ConfigError) as caught:
        load_spec(path, overrides)
    assert all("\n" not in line and len(line) < 2000 for line in caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output: x\npairs: [{pair: eng-nso, train: [[{src: a, tgt: b}]]}]\n", "pairs[0].train[0]: a source is"),
        ("output: x\npairs: [{pair: eng-nso, train: [[[1]]]}]\n", "pairs[0].train[0]: a source is {src: FILE"),
        ("output: x\npairs: [{pair: eng-nso, train: [src]}]\n", "pairs[0].train[0]: a source is {src: FILE"),
        ("output: x\npairs: [{pair: eng-nso, train: {? [a] : b}}]\n", "not YAML: "),
        ("output: &a [*a]\n", "nested more than 50 deep, or contains itself"),
        ("output: x\npairs: &a {b: *a}\n", "nested more than 50 deep, or contains itself"),
        (MINIMAL + "seed: " + "9" * 4000, "a whole number of more than 64 bits"),
        (MINIMAL + "seed: " + "9" * 5000, "not YAML: Exceeds the limit (4300"),
        (MINIMAL + "seed: 0x" + "f" * 5000, "a whole number of more than 64 bits"),
        (MINIMAL + 'pivot: "\\ud800"\n', "half of a surrogate pair"),
        (MINIMAL + "x: &a [1,1,1,1,1,1,1,1]\n" + "".join(f"x{n}: &{c} [{','.join([f'*{b}'] * 8)}]\n"
            for n, (b, c) in enumerate(zip("abcdefg", "bcdefgh", strict=True))), "more than 500,000 values"),
        (f"m0: &m0 {{a: 1, b: 2}}\n{MERGES}\n{MINIMAL}", "<< merges more than 500,000 keys"),
        (f"a: &a {{b: 1}}\nc: {{<<: [{', '.join(['*a'] * 200)}]}}\n{MINIMAL}", "<< merges more than 100 mappings"),
        (MINIMAL + "seed: !!int ''\n", "a value is not what its tag (!!) says"),
        (MINIMAL + "seed: !!bool maybe\n", "a value is not what its tag (!!) says"),
        (MINIMAL + "seed: !!timestamp soon\n", "a value is not what its tag (!!) says"),
        (MINIMAL + "1: 2\n", "[1]: Keys should be strings"),
        (MINIMAL + "k" * 900 + ": 1\n", "kkk...: unknown key"),
        (MINIMAL.replace("eng-nso", "e" * 5000), "pairs[0].pair: 'eee"),
        (MINIMAL.replace("eng-nso", '"eng-nso\\n- x"'), "is not two language codes"),
        ("[" * 5000, "nested too deeply"),
    ],
    ids=range(21),
)  # fmt: skip
def test_a_text_that_is_no_specification(text: str, message: str, tmp_path: Path) -> None:
    found = refused(write(tmp_path, text))
    assert any(message in line for line in found), found


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (".".join("a" * 3000) + "=1", "a key of 3,000 parts"),
        ("seed=" + "9" * 4000, "a whole number of more than 64 bits"),
        ("clean=&a [*a]", "contains itself"),
        ("k" * 5000 + "=1", "kkk...: unknown key"),
        ("k" * 5000, "expected KEY=VALUE"),
        ("seed=!!int ''", "not what its tag"),
        ("pairs.0=1", "pairs is a list"),
    ],
    ids=range(7),
)
def test_an_override_that_no_specification_can_have(override: str, message: str, tmp_path: Path) -> None:
    assert any(message in line for line in refused(write(tmp_path, MINIMAL), override))


def test_twenty_thousand_unknown_keys_are_told_in_a_few_lines(tmp_path: Path) -> None:
    keys = [f"key{number}" for number in range(20_000)]
    (tmp_path / "spec.yaml").write_text(MINIMAL + "{}")
    found = _refused_slowly(write(tmp_path, MINIMAL + "".join(f"{key}: 1\n" for key in keys)))
    assert len(found) == MOST_PROBLEMS + 1 and found[-1].endswith("and 19,950 more problems")
    only = yaml.safe_dump(keys, default_flow_style=True)
    found = _refused_slowly(write(tmp_path, f"output: x\npair_list: {{name: opus100, root: x, only: {only}}}\n"))
    assert len(found) == MOST_PROBLEMS + 1 and found[-1].endswith("and 19,950 more problems")


def _refused_slowly(path: Path) -> list[str]:
    """What is said of much YAML, of which PyYAML reads some ten thousand keys a second."""
    with within(20, "twenty thousand keys"), pytest.raises(ConfigError) as caught:
        load_spec(path)
    return caught.value.problems


def test_two_thousand_pairs_are_compared_soon(tmp_path: Path) -> None:
    pairs = [{"pair": f"eng-x{number}", "train": {"src": "a", "tgt": "b"}} for number in range(2000)]
    content = {"output": "x", "pairs": pairs}
    from data_prep.spec.sections import Spec

    with within(1, "two thousand pairs"):
        assert len(Spec.model_validate(content).pairs) == 2000
    with pytest.raises(ValueError, match="pair x7-eng is given twice"):
        Spec.model_validate({"output": "x", "pairs": [*pairs, {**pairs[7], "pair": "x7-eng"}]})
    with pytest.raises(ValueError, match="pair eng-x7 is given twice"):
        Spec.model_validate({"output": "x", "pairs": [*pairs, pairs[7]]})


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "huge"])
def test_only_a_file_of_a_fair_size_is_read(kind: str, tmp_path: Path) -> None:
    place = Path("/dev/zero") if kind == "device" else tmp_path / "place"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "huge":
        with place.open("wb") as file:
            file.truncate(1 << 40)
    said = {"device": "is a device, not a file", "pipe": "is a pipe, not a file", "folder": "is a folder, not a file"}
    (line,) = refused(place)
    assert line.startswith(
        f"{place}: {said.get(kind, f'has more than {LARGEST_FILE:,} bytes')}; expected a corpus spec"
    )


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "x/" * 3000, "\ud800"], ids=ascii)
def test_a_name_that_no_file_has(name: str) -> None:
    file, _ = find_spec(Path(name))
    assert "expected a corpus specification in YAML" in refused(file)[0]


def test_a_root_that_no_folder_has(tmp_path: Path) -> None:
    path = write(tmp_path, LISTED.replace("root: opus", f"root: {'x' * 300}"))
    with pytest.raises(DataError, match=r"cannot be read: File name too long; correct pair_list\.root"):
        load_spec(path)


@pytest.mark.parametrize("number", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_any_file_is_a_specification_or_refused(number: int, tmp_path: Path) -> None:
    loaded = 0
    for seed in range(number):
        source = random.Random(seed)
        path = tmp_path / "spec.yaml"
        path.write_bytes(_any_file(source).encode("utf-8", "surrogatepass"))
        overrides = [_any_override(source) for _ in range(source.choice([0, 0, 0, 1, 3]))]
        with within(1, f"seed {seed}"):
            try:
                load_spec(path, overrides)
                loaded += 1
            except ConfigError as error:
                assert error.problems and all("\n" not in line and len(line) < 2000 for line in error.problems), seed
            except DataError:
                pass
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    assert 0 < loaded < number


def _any_file(source: random.Random) -> str:
    text = source.choice([MINIMAL, LISTED, EXAMPLE.read_text(encoding="utf-8")])
    if source.random() < 0.4:
        return changed_text(text, source)
    return _written(changed_tree(yaml.safe_load(text), source))


def _written(tree: Any) -> str:
    return yaml.safe_dump(tree, default_flow_style=True, allow_unicode=True, width=10**6)


def _any_override(source: random.Random) -> str:
    keys = ["seed", "clean", "clean.max_words", "pairs", "pairs[0]", "pair_list.root", "a.b", "", "sentencepiece.model"]
    value = source.choice(VALUES)
    whole = f"{source.choice(keys)}={value if isinstance(value, str) else _written(value)}"
    return whole if source.random() < 0.7 else changed_text(whole, source)
