"""What the README shows is true of the code: commands parse, files exist, keys are keys, examples load."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from smoe_ds.cli.commands import COMMANDS, command_module
from smoe_ds.config import load_run
from smoe_ds.config.describe import describe_keys
from tests.helpers.environment import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", README, flags=re.MULTILINE | re.DOTALL)


def test_linked_and_named_files_exist() -> None:
    links = set(re.findall(r"\]\((?!http)([^)#]+)\)", README)) | set(
        re.findall(r"(?:launch|ds_configs)/[\w./]+\w", README)
    )
    assert len(links) > 6
    assert [name for name in sorted(links) if not (ROOT / name).exists()] == []


def test_every_command_is_in_the_table() -> None:
    assert [name for name in COMMANDS if f"| `smoe-ds {name}" not in README] == []


def test_commands_parse() -> None:
    """Every smoe-ds line of the shell examples is understood by its command's own parser."""
    import argparse

    lines = [line.split("#")[0].split(" < ")[0] for block in blocks("bash") for line in block.splitlines()]
    parsed = 0
    for words in (shlex.split(line) for line in lines):
        start = next((i + 1 for i, word in enumerate(words) if word in ("smoe-ds", "smoe_ds")), None)
        if start is None or words[start].startswith("-"):
            continue
        parser = argparse.ArgumentParser()
        command_module(words[start]).add_arguments(parser)
        parser.parse_args(words[start + 1 :])
        parsed += 1
    assert parsed >= 7


def test_keys_are_keys() -> None:
    known = {key.key for key in describe_keys()}
    named = set(re.findall(r"`(smoe\.[a-z_]+\.[a-z_]+)", README))
    assert len(named) > 10
    assert [key for key in sorted(named) if key not in known] == []


def test_run_example_loads(tmp_path: Path) -> None:
    [example] = blocks("jsonc")
    file = tmp_path / "run.json"
    file.write_text(example.replace("engine/", f"{ROOT}/ds_configs/engine/"), encoding="utf-8")
    assert load_run(file).smoe.moe.strata == [4, 12]


def test_specification_example_loads(tmp_path: Path) -> None:
    import textwrap

    from data_prep.spec.load_spec import load_spec

    file = tmp_path / "mine.yaml"
    first = []
    for example in blocks("yaml"):
        file.write_text(textwrap.dedent(example), encoding="utf-8")
        first.append(load_spec(file).pairs[0].pair)
    assert first == ["eng-nso", "eng-xog"]


@pytest.mark.parametrize("script", ["launch/quickstart.sh", "launch/test.sh", ".ci/run"])
def test_scripts_are_there(script: str) -> None:
    assert (ROOT / script).is_file()
