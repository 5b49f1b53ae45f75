"""Parses hjson, JSON with comments, of files that nobody vouches for: to a value that can be used, or one error."""

from __future__ import annotations

from collections import Counter
from typing import Any

import hjson

from smoe_ds.config.tree_limits import problem_in

_SHOWN = 10  # keys


class NotReadableError(Exception):
    """A text that is not hjson, or holds what no run can use; the message says what.

    Attributes:
        place: ``:LINE:COLUMN``; empty where that is not known.
    """

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.place = place


def parse(text: str) -> Any:
    """The value of an hjson text.

    Raises:
        NotReadableError: it is not hjson, holds a key twice in one object, or see `problem_in`.
    """
    try:
        tree = hjson.loads(text, object_pairs_hook=without_duplicates)
    except hjson.HjsonDecodeError as error:
        raise NotReadableError(f"is not JSON: {error.msg}", f":{error.lineno}:{error.colno}") from None
    except IndexError:
        raise NotReadableError("is not JSON: it ends within a comment or a text in '''") from None
    except (ValueError, OverflowError) as error:
        raise NotReadableError(f"is not JSON that can be read: it has a number without end ({error})") from None
    except RecursionError:
        raise NotReadableError("is not JSON that can be read: its brackets are nested too deeply") from None
    if (problem := problem_in(tree, nul=False)) is not None:
        raise NotReadableError(f"cannot be used: {problem}")
    return tree


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its keys and values.

    Raises:
        NotReadableError: a key is there twice.
    """
    twice = sorted(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
    if twice:
        more = f" and {len(twice) - _SHOWN:,} more" if len(twice) > _SHOWN else ""
        shown = ", ".join(key[:100] for key in twice[:_SHOWN])
        raise NotReadableError(f"{shown}{more}: written twice in one object; keep one")
    return dict(pairs)
