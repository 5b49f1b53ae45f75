"""``smoe-ds COMMAND``: finds the command, runs it, turns errors into one line and an exit code.

Exit codes: 0 done; 1 an error that is ours; 2 an error the user can fix; 130 interrupted; a command may return others.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from smoe_ds import __version__
from smoe_ds.config.nearest import nearest
from smoe_ds.console import take_any_text
from smoe_ds.errors import SmoeError

COMMANDS = {
    "validate": "print the resolved configuration of a run, or everything that is wrong with it",
    "plan": "parameters, FLOPs, exchange and memory of a run before it starts; its time and throughput at scale",
    "calibrate": "measure the constants of this device and its links, for smoe-ds plan --constants",
    "doctor": "check whether a run can start here: memory, disks, network, data; and what to do where it cannot",
    "data": "check a prepared corpus, show its sentences, count what a run will see of it",
    "train": "train a model from a run file, or go on from its last checkpoint",
    "translate": "translate text with a trained model",
    "evaluate": "translate held-out text and score it",
    "checkpoint": "list, verify, compare and remove checkpoints",
    "average": "average the weights of checkpoints",
    "export": "write a model for inference alone: one safetensors file, JSON and the vocabulary",
    "import": "take over the weights of a checkpoint that DeepSpeed saved",
    "upcycle": "start a mixture of experts from a dense model: every expert a copy of its feed-forward network",
}
"""Commands with their one-line help; a command's module is imported only when it is used."""

_MODULES = {"import": "import_checkpoint"}
"""Modules whose name is not the command's, where that is a keyword of Python."""


class _Parser(argparse.ArgumentParser):
    """Usage errors in one line, as all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: arguments without the program's name; None takes the process's.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    take_any_text()
    try:
        return _run(arguments)
    except SystemExit as stop:  # argparse, after --help or a usage error
        return stop.code if isinstance(stop.code, int) else 0
    except SmoeError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("smoe-ds: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        print(_internal_error(error), file=sys.stderr)
        return 1


def _run(arguments: Sequence[str]) -> int:
    name = next((word for word in arguments if not word.startswith("-")), None)
    if name is not None and name not in COMMANDS:
        near = nearest(name, COMMANDS)
        hint = f"did you mean {near}?" if near else f"commands: {', '.join(COMMANDS)}"
        print(f"smoe-ds: unknown command {name}; {hint}", file=sys.stderr)
        return 2
    module = command_module(name) if name else None
    args = _parser(name, module).parse_args(arguments)
    if module is None:
        _parser(None, None).print_help()
        return 2
    return int(module.run(args))


def command_module(name: str) -> ModuleType:
    """The module of a command: ``HELP``, ``add_arguments(parser)`` and ``run(args) -> int``."""
    return importlib.import_module(f"smoe_ds.cli.{_MODULES.get(name, name)}")


def _parser(name: str | None, module: ModuleType | None) -> _Parser:
    parser = _Parser(prog="smoe-ds", description="Stratified Mixture-of-Experts translation models on DeepSpeed.")
    parser.add_argument("--version", action="version", version=f"smoe-ds {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    # The deepspeed launcher puts it in front of the command; LOCAL_RANK in the environment says the same.
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for command, text in COMMANDS.items():
        sub = commands.add_parser(command, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if module is not None and command == name:
            module.add_arguments(sub)
            sub.add_argument(
                "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
            )
    return parser


def _internal_error(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    return f"smoe-ds: internal error: {type(error).__name__}: {text}{place}; --debug shows the traceback"


if __name__ == "__main__":
    raise SystemExit(main())
