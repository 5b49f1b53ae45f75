"""``smoe-ds COMMAND``: finds the command, runs it, turns errors into one line and an exit code.

Exit codes: 0 done; 1 an error that is ours; 2 an error the user can fix; 130 interrupted; a command may return others.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from smoe_ds import __version__
from smoe_ds.cli.commands import COMMANDS, command_module
from smoe_ds.config.nearest import nearest
from smoe_ds.console import take_any_text
from smoe_ds.errors import SmoeError


class _Parser(argparse.ArgumentParser):
    """Prints usage errors in one line, like all other errors."""

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


def _parser(name: str | None, module: ModuleType | None) -> _Parser:
    parser = _Parser(
        prog="smoe-ds", description="Train and use Stratified Mixture-of-Experts translation models on DeepSpeed."
    )
    parser.add_argument("--version", action="version", version=f"smoe-ds {__version__}")
    parser.add_argument("--debug", action="store_true", help="show a traceback if something fails")
    # The deepspeed launcher may put it before the command; LOCAL_RANK in the environment says the same.
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for command, text in COMMANDS.items():
        sub = commands.add_parser(command, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if module is not None and command == name:
            module.add_arguments(sub)
            sub.add_argument(
                "--debug", action="store_true", default=argparse.SUPPRESS, help="show a traceback if something fails"
            )
    return parser


def _internal_error(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    return f"smoe-ds: internal error: {type(error).__name__}: {text}{place}; --debug shows the traceback"


if __name__ == "__main__":
    raise SystemExit(main())
