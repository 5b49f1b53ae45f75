"""Errors a user can cause and fix: one line that says where, what was expected, what was found and the remedy.

The command line prints the message and exits with code 2; a traceback appears only with ``--debug``.
"""

from __future__ import annotations

from collections.abc import Sequence

from smoe_ds.text_line import spelled_out


class SmoeError(Exception):
    """Base of every error whose message is written for the user.

    Names of files and keys that it quotes reach no terminal as they are: hidden characters are spelled out.

    Attributes:
        agreed: every rank raises it with the same message, so that one of them is enough to print it.
    """

    agreed = False

    def __init__(self, message: str) -> None:
        super().__init__(spelled_out(message, keep="\n\t"))


class ConfigError(SmoeError):
    """A run configuration that cannot work. Carries every problem found, not only the first, a line each."""

    def __init__(self, problems: Sequence[str] | str) -> None:
        lines = problems.split("\n") if isinstance(problems, str) else problems
        self.problems = [spelled_out(line) for line in lines]
        super().__init__("\n".join(self.problems))


class DataError(SmoeError):
    """Text, shards or a tokenizer that are missing, damaged or do not fit together."""


class CheckpointError(SmoeError):
    """A checkpoint that is missing, damaged or does not fit the model."""


class LaunchError(SmoeError):
    """Processes that were not started as they should be, or that cannot find each other."""


class NonFiniteError(SmoeError):
    """Numbers that are NaN or infinite where a computation cannot go on with them."""
