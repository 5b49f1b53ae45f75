"""What the values of arguments may be; each function reads one, or says what was expected."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, 1 or more")
    return int(text)


def natural(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, 0 or more")
    return int(text)


def port_number(text: str) -> int:
    """A TCP port, or 0."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text}: expected a port, 0 to 65535")
    return int(text)


def resamples(text: str) -> int:
    """0, or a whole number that is enough for a 95 % interval."""
    if not text.isdecimal() or 0 < int(text) < 100:
        raise argparse.ArgumentTypeError(f"{text}: expected 0, or a whole number from 100 on")
    return int(text)


def checkpoint_name(text: str) -> str | int:
    """``best``, ``last`` or a step."""
    if text.isdecimal():
        return int(text)
    if text not in ("best", "last"):
        raise argparse.ArgumentTypeError(f"{text}: expected best, last or the number of a step")
    return text


def steps(text: str) -> list[int]:
    """Steps separated by commas."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text}: expected steps such as 1000,2000")
    return [int(part) for part in parts]


def share(text: str) -> float:
    """A share between 0 and 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 to 1")
    return value


def not_negative(text: str) -> float:
    """A number of 0 or more."""
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a number, 0 or more")
    return value


def positive_seconds(text: str) -> float:
    """A time of more than 0 seconds."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected seconds, more than 0")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
