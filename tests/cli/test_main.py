"""The command line's frame: overview, errors in one line, exit codes, the launcher's argument."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from types import ModuleType

import pytest

from smoe_ds import __version__
from smoe_ds.cli import main as cli
from smoe_ds.cli.commands import COMMANDS, command_module
from smoe_ds.errors import ConfigError, DataError
from tests.helpers.environment import ROOT


def fake_command(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None, code: int = 0
) -> list[argparse.Namespace]:
    """Puts a command in the place of ``train`` that raises ``error`` or returns ``code``; its calls are collected."""
    calls: list[argparse.Namespace] = []

    def run(args: argparse.Namespace) -> int:
        calls.append(args)
        if error is not None:
            raise error
        return code

    module = ModuleType("smoe_ds.cli.train")
    vars(module).update(HELP="h", add_arguments=lambda parser: parser.add_argument("--steps", type=int), run=run)
    monkeypatch.setitem(sys.modules, "smoe_ds.cli.train", module)
    return calls


def test_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"    {command}" in out for command in COMMANDS)
    assert cli.main([]) == 2
    assert capsys.readouterr().out == out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"smoe-ds {__version__}\n"


def test_overview_agrees_with_the_commands_own_help() -> None:
    present = [name for name in COMMANDS if importlib.util.find_spec(f"smoe_ds.cli.{name}")]
    assert "validate" in present
    assert {name: command_module(name).HELP for name in present} == {name: COMMANDS[name] for name in present}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "smoe-ds: unknown command trian; did you mean train?\n"),
        (["xyz"], f"smoe-ds: unknown command xyz; commands: {', '.join(COMMANDS)}\n"),
        (["--verbose", "train"], "smoe-ds: unrecognized arguments: --verbose; see smoe-ds --help\n"),
        (
            ["train", "--steps", "many"],
            "smoe-ds train: argument --steps: invalid int value: 'many'; see smoe-ds train --help\n",
        ),
    ],
)
def test_usage_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    calls = fake_command(monkeypatch, None)
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == message
    assert calls == []


@pytest.mark.parametrize("code", [0, 75])
def test_exit_code_is_the_commands(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    fake_command(monkeypatch, None, code)
    assert cli.main(["train"]) == code


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError(["a: one", "b: two"]), 2, "a: one\nb: two\n"),
        (DataError("shard: short"), 2, "shard: short\n"),
        (KeyboardInterrupt(), 130, "smoe-ds: interrupted\n"),
    ],
)
def test_errors_are_lines_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    fake_command(monkeypatch, error)
    assert cli.main(["train"]) == code
    assert capsys.readouterr().err == message


def test_internal_error_names_its_place(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake_command(monkeypatch, RuntimeError("lost\nrank"))
    assert cli.main(["train"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smoe-ds: internal error: RuntimeError: lost rank (")
    assert "test_main.py:" in line
    assert line.endswith("--debug shows the traceback")


@pytest.mark.parametrize("arguments", [["--debug", "train"], ["train", "--debug"]])
@pytest.mark.parametrize("error", [DataError("shard: short"), RuntimeError("lost")])
def test_debug_before_or_after_the_command_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], error: Exception
) -> None:
    (calls := fake_command(monkeypatch, error)).clear()
    assert cli.main(arguments) in (1, 2)
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert calls[0].debug is True


@pytest.mark.parametrize("argument", ["--local_rank=1", "--local-rank=1"])
def test_argument_of_the_deepspeed_launcher_is_accepted(monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    calls = fake_command(monkeypatch, None)
    assert cli.main([argument, "train", "--steps", "3"]) == 0
    assert (calls[0].command, calls[0].steps) == ("train", 3)


def test_python_dash_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "smoe_ds", "validate", "none.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "none.json: no such file; expected a run file such as ds_configs/quickstart.json\n"


def test_reader_of_the_output_may_leave() -> None:
    program = "import sys; from smoe_ds.cli.main import main; sys.exit(main(['validate', '--keys']))"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 141
    assert errors == ""
