"""Errors a user can cause and fix: one line that says where, what was expected, what was found and the remedy.

The command line prints the message and exits with code 2; a traceback appears only with ``--debug``.
"""

from __future__ import annotations

from collections.abc import Sequence


class SmoeError(Exception):
    """Base of every error whose message is written for the user.

    Attributes:
        agreed: every rank raises it with the same message, so that one of them is enough to print it.
    """

    agreed = False


class ConfigError(SmoeError):
    """A run configuration that cannot work. Carries every problem found, not only the first."""

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(SmoeError):
    """Text, shards or a tokenizer that are missing, damaged or do not fit together."""


class CheckpointError(SmoeError):
    """A checkpoint that is missing, damaged or does not fit the model."""


class LaunchError(SmoeError):
    """Processes that were not started as they should be, or that cannot find each other."""


class NonFiniteError(SmoeError):
    """Numbers that are NaN or infinite where a computation cannot go on with them."""
