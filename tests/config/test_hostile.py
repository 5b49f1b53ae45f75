"""Run files and overrides that nobody would write: one kind of error, soon, and nothing read that is no run file."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import hjson
import pytest

from smoe_ds.config import load_run
from smoe_ds.config.files import LARGEST_FILE, Layers, read_layers
from smoe_ds.config.problems import MOST_PROBLEMS
from smoe_ds.config.tree_limits import problem_in
from smoe_ds.errors import ConfigError
from tests.config.test_load import MINIMAL, problems, write
from tests.helpers.environment import ROOT
from tests.helpers.mutations import VALUES, changed_text, changed_tree, within

SHIPPED = sorted((ROOT / "ds_configs").rglob("*.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a: '''x", "ends within a comment or a text in '''"),
        ("{a: 1 /* x", "ends within a comment or a text in '''"),
        ("/*", "ends within a comment"),
        ("{a: " + "9" * 5000 + "}", "a number without end"),
        ("{a: " + "9" * 4000 + "}", "a whole number of more than 64 bits"),
        ("{a: 1e999}", "a number without end"),
        ("[" * 5000, "nested too deeply"),
        ("{a:" * 5000, "nested too deeply"),
        ("{a:" * 60 + "1" + "}" * 60, "nested more than 50 deep"),
        ("[" * 60 + "1" + "]" * 60, "nested more than 50 deep"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"a\\udc00": 1}', "half of a surrogate pair"),
        ('{"a": "x\\u0000"}', "a NUL character"),
        ('{"extends": "x\\u0000"}', "a NUL character"),
        (json.dumps({"extends": "x" * 5000}), "extends: no such file"),
        (json.dumps({"extends": ["x"] * 5000}), "extends: 5,000 files; at most 64"),
        ('{"a\\nb": 1}', "a\\nb: unknown key"),
        (json.dumps({"k" * 5000: 1}), "kkk...: unknown key"),
    ],
    ids=range(18),
)
def test_a_text_that_no_run_can_be_made_of(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, "run.json", text)
    with within(1, text[:20]):
        found = problems(path)
    assert any(message in line for line in found), found
    assert all(line.startswith(f"{path}:") and "\n" not in line and len(line) < 1000 for line in found)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a={'''x", "neither JSON nor hjson"),
        ("a=[1 /* x", "neither JSON nor hjson: is not JSON: it ends within a comment"),
        ("a=[" + "9" * 5000 + "]", "neither JSON nor hjson: is not JSON that can be read: it has a number without end"),
        ("smoe.moe.top_k=" + "9" * 5000, "smoe.moe.top_k: expected a whole number"),
        ("a=" + "9" * 4000, "a whole number of more than 64 bits"),
        ("a=" + "[" * 5000, "nested too deeply"),
        ("a=" + "[" * 60 + "]" * 60, "nested more than 50 deep"),
        (".".join("a" * 3000) + "=1", "a key of 3,000 parts"),
        ('a={"x": 1, "x": 2}', "x: written twice"),
        ("a=x\0", "a NUL character"),
        ("a=\udc80", "half of a surrogate pair"),
        ("extends=" + "x" * 5000, "extends: no such file"),
        ("extends=x\0", "a NUL character"),
        ("k" * 5000 + "=1", "kkk...: unknown key"),
        ("a" * 5000, "expected KEY=VALUE"),
    ],
    ids=range(15),
)
def test_an_override_that_no_run_can_be_made_of(override: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, "run.json", MINIMAL)
    with within(1, override[:20]):
        found = problems(path, override)
    assert any(message in line for line in found), found
    assert all(len(line) < 1000 for line in found)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "x/" * 3000, "\udc80\ud800"], ids=ascii)
def test_a_name_that_no_file_has(name: str) -> None:
    assert "cannot be read: " in problems(Path(name))[0] or "no such file" in problems(Path(name))[0]


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "huge"])
def test_only_a_file_of_a_fair_size_is_read(kind: str, extended: bool, tmp_path: Path) -> None:
    place = Path("/dev/zero") if kind == "device" else tmp_path / "place"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "huge":
        with place.open("wb") as file:
            file.truncate(1 << 40)
    path = write(tmp_path, "run.json", MINIMAL | {"extends": [str(place)]}) if extended else place
    with within(1, kind):
        (line,) = problems(path)
    said = {"device": "is a device, not a file", "pipe": "is a pipe, not a file", "folder": "is a folder, not a file"}
    assert f"{place}: cannot be read: {said.get(kind, f'has more than {LARGEST_FILE:,} bytes')}" in line


def test_ten_thousand_keys_are_read_and_refused_soon(tmp_path: Path) -> None:
    keys = [f"key{number}" for number in range(10_000)]
    unknown = write(tmp_path, "unknown.json", MINIMAL | dict.fromkeys(keys, 1))
    with within(3, "unknown keys"):
        found = problems(unknown)
    assert found[0] == f"{unknown}: 10,000 problems, of which the first {MOST_PROBLEMS} follow"
    assert len(found) == MOST_PROBLEMS + 1 and "unknown key" in found[1]
    twice = write(tmp_path, "twice.json", "{" + "".join(f"{key}:1,{key}:2," for key in keys) + "}")
    with within(3, "keys written twice"):
        (line,) = problems(twice)
    assert "key0, key1, key10" in line and "and 9,990 more: written twice in one object; keep one" in line
    objects = write(tmp_path, "objects.json", {key: {"a": 1} for key in keys})
    values = write(tmp_path, "values.json", {"extends": "objects.json", **dict.fromkeys(keys, 1)})
    with within(3, "objects replaced by values"):
        layers = read_layers(str(values))
    assert layers.origins == {(key,): str(values) for key in keys} and objects.exists()


def test_a_file_is_read_once_however_often_it_is_extended(tmp_path: Path) -> None:
    for number in range(25):
        for twin in "ab":
            write(tmp_path, f"{twin}{number}", {"extends": [f"a{number + 1}", f"b{number + 1}"], f"{twin}{number}": 1})
    write(tmp_path, "a25", {"last": 1}), write(tmp_path, "b25", {"last": 2})
    with within(3, "two that extend two"):
        layers = read_layers(str(tmp_path / "a0"))
    assert layers.tree["last"] == 2 and len(layers.tree) == 50
    assert layers.origins["last",] == str(tmp_path / "b25")


def test_a_run_of_very_many_files_or_keys_is_refused(tmp_path: Path) -> None:
    for number in range(200):
        write(tmp_path, f"{number}", {"extends": f"{number + 1}"})
    assert "more than 64 files make up this run" in problems(tmp_path / "0")[0]
    write(tmp_path, "many", {f"k{number}": 1 for number in range(10_000)})
    path = write(tmp_path, "run.json", {"extends": ["many"] * 60})
    with within(5, "laid over and over"):
        assert "more than 200,000 keys are laid over others" in problems(path)[0]


def test_origins_are_those_of_a_naive_reading() -> None:
    """Random layers, against a walk that keeps for every key the name of the layer that wrote it last."""
    source = random.Random(3)

    def tree(depth: int) -> dict[str, object]:
        return {key: tree(depth - 1) if depth and source.random() < 0.6 else 1 for key in source.sample("abc", 2)}

    for _ in range(300):
        layers, expected, merged = Layers(), {}, {}
        for name in "xyz":
            values = tree(3)
            layers.put(values, name)
            _lay_naively(merged, values, name, expected, ())
        assert (layers.tree, layers.origins) == (merged, expected)


def _lay_naively(target: dict, values: dict, name: str, origins: dict, at: tuple[str, ...]) -> None:
    for key, value in values.items():
        path = (*at, key)
        if not (isinstance(value, dict) and isinstance(target.get(key), dict)):
            for known in list(origins):
                if known[: len(path)] == path:
                    del origins[known]
            target[key] = {} if isinstance(value, dict) else value
        origins[path] = name
        if isinstance(value, dict):
            _lay_naively(target[key], value, name, origins, path)


def test_a_tree_that_contains_itself_or_has_no_end() -> None:
    circle: list[object] = []
    circle.append({"a": circle})
    assert "contains itself" in str(problem_in(circle))
    wide: list[object] = []
    for _ in range(30):
        wide = [wide, wide]
    with within(1, "two of two of two"):
        assert "more than 500,000 values" in str(problem_in(wide))
    assert problem_in({"a": [1, 2.5, None, {"b": "é\0"}]}) is None


@pytest.mark.parametrize("number", [100, pytest.param(3000, marks=pytest.mark.slow)])
def test_any_file_is_a_run_or_refused(number: int, tmp_path: Path) -> None:
    """A run that loads is written out as a file that loads to the same run."""
    loaded = 0
    for seed in range(number):
        source = random.Random(seed)
        path = tmp_path / "run.json"
        path.write_bytes(_any_file(source).encode("utf-8", "surrogatepass"))
        overrides = [_any_override(source) for _ in range(source.choice([0, 0, 0, 1, 3]))]
        with within(1, f"seed {seed}"):
            try:
                run = load_run(path, overrides)
            except ConfigError as error:
                assert error.problems and all("\n" not in line and len(line) < 2000 for line in error.problems), seed
                continue
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        loaded += 1
        assert load_run(write(tmp_path, "again.json", run.to_dict())) == run, seed
    assert 0 < loaded < number


def _any_file(source: random.Random) -> str:
    name = source.choice([None, *SHIPPED])
    text = json.dumps(MINIMAL, indent=1) if name is None else name.read_text()
    if source.random() < 0.4:
        return changed_text(text, source)
    tree = hjson.loads(text)
    if "extends" in tree:
        assert name is not None
        tree["extends"] = [str(name.parent / parent) for parent in tree["extends"]]
    return json.dumps(changed_tree(tree, source))


def _any_override(source: random.Random) -> str:
    keys = [
        "smoe.moe.strata",
        "smoe.train",
        "optimizer.params.lr",
        "extends",
        "a.b",
        "",
        "smoe",
        "zero_optimization.stage",
    ]
    value = source.choice(VALUES)
    text = value if isinstance(value, str) and source.random() < 0.5 else json.dumps(value)
    whole = f"{source.choice(keys)}={text}"
    return whole if source.random() < 0.7 else changed_text(whole, source)


@pytest.mark.parametrize(
    "setting",
    ["smoe.model.encoder_layers=1000000000", "smoe.model.decoder_layers=1001", "smoe.moe.strata=[1000000000,2]"],
)
def test_models_of_absurd_size_are_refused_at_once(setting: str) -> None:
    """Before anything as long as the number is made."""
    key = setting.split("=", maxsplit=1)[0].replace(".", r"\.")
    with pytest.raises(ConfigError, match=f"{key}: "):
        load_run(ROOT / "ds_configs/small_cpu.json", [setting])
