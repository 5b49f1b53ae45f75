"""Every name in a run folder is written once, in `smoe_ds.run_names`; half-done checkpoints count for nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from smoe_ds import run_names
from smoe_ds.checkpoints import format as fmt
from smoe_ds.config.load import load_run
from smoe_ds.errors import ConfigError
from smoe_ds.run.folder import RunFolder
from smoe_ds.run.record import check_continues
from tests.helpers.environment import ROOT
from tests.helpers.small_run import small_run, write_run

NAMES = {value for name, value in vars(run_names).items() if name.isupper()}
OWNERS = {
    "smoe_ds/run_names.py": NAMES,
    "smoe_ds/checkpoints/format.py": {fmt.LATEST, fmt.STATE, fmt.MANIFEST},
}
OTHER_THINGS = {
    ("smoe_ds/config/deepspeed_keys.py", "tensorboard"): "a key of DeepSpeed's",
    ("smoe_ds/data/manifest.py", "tokenizer.model"): "the name in a prepared corpus",
    ("smoe_ds/data/manifest.py", "manifest.json"): "a corpus's",
    ("smoe_ds/doctor/checks.py", "checkpoints"): "a check's title",
    ("smoe_ds/doctor/versions.py", "tensorboard"): "a package",
    ("smoe_ds/evaluate/spread.py", "translations"): "a key of JSON",
    ("smoe_ds/evaluate/comet.py", "checkpoints"): "a folder of a COMET model",
    ("smoe_ds/evaluate/direction_scores.py", "translations"): "a key of JSON",
    ("smoe_ds/evaluate/records.py", "translations"): "a key of JSON",
    ("smoe_ds/huggingface/folder.py", "config.json"): "a file of transformers",
    ("smoe_ds/serve/translate.py", "translations"): "a key of JSON",
    ("smoe_ds/serve/worker.py", "translations"): "a key of JSON",
    ("smoe_ds/train/log_events.py", "translations"): "a tag",
    ("smoe_ds/weights/deepspeed_files.py", "latest"): "a file of DeepSpeed's",
    ("launch/jobs.py", "STOPPED"): "a placeholder of a template",
    ("launch/script.py", "logs"): "what an error is about",
}
"""Constants that only look like such a name: (file, name) -> what it is."""


def literals_in(source: str, path: str) -> Iterator[tuple[str, str]]:
    """File and name wherever a string constant is a name of a run folder, or a path with one in it.

    Sentences for users are no paths: a text with blanks counts only where the name stands after a slash.
    """
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    tree = ast.parse(source)
    prose = {
        id(statement.value)
        for node in ast.walk(tree)
        for statement in (node.body if isinstance(node, documented) else [])
        if isinstance(statement, ast.Expr)
    }
    owned = OWNERS.get(path, set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            for name in sorted({*NAMES, *OWNERS["smoe_ds/checkpoints/format.py"]} - owned):
                if _names(node.value, name):
                    yield path, name


def _names(text: str, name: str) -> bool:
    if text == name:
        return True
    inside = rf"\$run/{re.escape(name)}" if " " in text else rf"(^|/){re.escape(name)}(/|$)"
    return name != run_names.ALIVE and re.search(inside, text) is not None


def test_no_name_is_written_twice() -> None:
    files = [path for package in ("smoe_ds", "launch") for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 200
    found = {
        literal
        for path in files
        for literal in literals_in(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    }
    assert found - OTHER_THINGS.keys() == set()
    assert OTHER_THINGS.keys() - found == set()  # an exception that is needed no more


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('folder / "checkpoints" / name', ["checkpoints"]),
        ('def f():\n    return Path("run/checkpoints/latest")', ["checkpoints", "latest"]),
        ("shell = 'cat -- \"$run/crash.json\"'", ["crash.json"]),
        ('f"{folder}/STOP"', ["STOP"]),
        ('glob("alive-")', ["alive-"]),
        ('"""RUN/config.json"""', []),
        ('raise Error(f"{path}: config.json is missing; see RUN/checkpoints/step_N in it")', []),
    ],
)
def test_what_counts_as_a_name(source: str, names: list[str]) -> None:
    assert [name for _, name in literals_in(source, "smoe_ds/a.py")] == names


def test_shell_scripts_name_what_there_is() -> None:
    """They cannot import names; this holds them to the same ones."""
    of_the_quickstart = {"log", "settings", "trained_minutes", "scores-$limit-$"}
    total = 0
    for path in sorted((ROOT / "launch").glob("*.sh")):
        text = path.read_text(encoding="utf-8")
        for found in re.findall(r"\$(?:run|dir/disturbed|dir/\$1)/([\w.$-]+)", text):
            assert found in NAMES | of_the_quickstart, f"{path.name}: {found}"
            total += 1
    assert total > 5


def test_paths(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.checkpoint(7) == tmp_path / "checkpoints" / "step_00000007"
    assert (folder.latest, folder.best) == (tmp_path / "checkpoints/latest", tmp_path / "checkpoints/best")
    properties = [name for name, member in vars(RunFolder).items() if isinstance(member, property)]
    paths = {str(getattr(folder, name).relative_to(tmp_path)) for name in properties}
    names_with_a_path = NAMES - {run_names.ALIVE, run_names.TRANSLATIONS}
    assert paths == names_with_a_path | {"checkpoints/latest", "checkpoints/best"}


def test_the_run_folder_of_a_path(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    checkpoint = folder.checkpoint(3)
    checkpoint.mkdir(parents=True)
    assert RunFolder.containing(checkpoint) is None
    folder.config.write_text("{}")
    assert RunFolder.containing(checkpoint) == RunFolder.containing(folder.path) == folder
    assert RunFolder.of_checkpoint(checkpoint) == folder
    assert RunFolder.containing(tmp_path / "run" / "checkpoints") is None


def test_half_a_checkpoint_is_none(tmp_path: Path, corpus_folder: Path) -> None:
    """What a killed save leaves ends in random digits; a run that saved nothing may still be changed."""
    folder = RunFolder(tmp_path / "run")
    run = load_run(write_run(tmp_path / "run.json", small_run(folder.path, corpus_folder)))
    (folder.checkpoints / "step_00000100.tmp-deadbee7").mkdir(parents=True)
    folder.config.write_text('{"smoe": {"model": {}, "moe": {}, "data": {}}}')
    assert folder.saved() == []
    check_continues(folder, run)
    for step in (20, 100_000_000, 3):
        folder.checkpoint(step).mkdir()
    assert folder.saved() == [folder.checkpoint(step) for step in (100_000_000, 20, 3)]
    with pytest.raises(ConfigError, match=r"smoe\.model\.d_model: 32, but the run in .* has None"):
        check_continues(folder, run)
