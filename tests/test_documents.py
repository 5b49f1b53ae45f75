"""What the documents beside the README show is true: links lead somewhere, commands parse, keys are keys."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import launch.cli
from data_prep.cli import argument_parser
from smoe_ds.cli.main import COMMANDS, command_module
from smoe_ds.config.describe import describe_keys
from tests.helpers.environment import ROOT

DOCUMENTS = sorted(
    path.relative_to(ROOT) for folder in ("smoe_ds", "data_prep", "launch") for path in (ROOT / folder).rglob("*.md")
)
VALUES = {"$RUN": "run.json", "$DIR": "runs/m15", "$SPEC": "m15", "$NODES": "4", "$GPUS": "8", "$PARTITION": "volta"}


def text_of(document: Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of every line of a shell example, and of every command in a table or between paragraphs."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^    (\S.*)$", text, flags=re.MULTILINE) + re.findall(r"^\|[^|]*\| `([^`]+)` \|", text, re.M)
    for line in lines:
        for name, value in VALUES.items():
            line = line.replace(name, value)
        if re.search(r"smoe-ds |(-m|--module) (smoe_ds|data_prep|launch) |smoe_ds/__main__", line):
            yield shlex.split(line.split(" #")[0])


def parse(words: list[str]) -> None:
    """Hands a command's arguments to its own parser; exits where it does not know them."""
    for place, word in enumerate(words[:-1]):
        following = words[place + 1 :]
        if word in ("data_prep", "launch") and words[place - 1] == "-m":
            parser = argument_parser() if word == "data_prep" else launch.cli._parser()
            parser.parse_args(following)
            return
        if word in ("smoe-ds", "smoe_ds") or word.endswith("smoe_ds/__main__.py"):
            assert following[0] in COMMANDS
            own = argparse.ArgumentParser()
            command_module(following[0]).add_arguments(own)
            own.parse_args(following[1:])
            return
    raise AssertionError(f"no command in {words}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text_of(document))
    assert [link for link in links if not (ROOT / document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_named_files_exist(document: Path) -> None:
    named = re.findall(r"\b((?:tests|ds_configs|launch|data_prep|smoe_ds)/[\w/]+\.\w+)", text_of(document))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_keys_are_keys(document: Path) -> None:
    known = {".".join(key.key.split(".")[:3]) for key in describe_keys()}
    named = set(re.findall(r"`(?:--set )?((?:smoe|optimizer)\.[a-z_]+\.[a-z_]+)", text_of(document)))
    assert sorted(named - known) == []


def test_commands_parse() -> None:
    found = [words for document in DOCUMENTS for words in command_lines(text_of(document))]
    assert len(found) > 20
    for words in found:
        try:
            parse(words)
        except SystemExit:
            raise AssertionError(f"does not parse: {shlex.join(words)}") from None


def test_a_command_that_does_not_exist_is_noticed() -> None:
    (words,) = command_lines("```bash\nsmoe-ds plan run.json --node 4 --hosts 3\n```\n")
    with pytest.raises(SystemExit):
        parse(words)
