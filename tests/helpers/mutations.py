"""Files that nobody would write: seeded changes to text and trees, values no key expects, a clock for refusals."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    10**30,
    10**400,
    0.5,
    -0.0,
    1e308,
    1e-320,
    "",
    " ",
    "x",
    "-",
    "../x",
    "/",
    "~",
    "~nobody",
    "$HOME",
    "\0",
    "a\nb",
    "\u2028",
    "\u202e",
    "\x1b[2J",
    "\ud800",
    "é",
    "1e9",
    "null",
    "x" * 3000,
    "a.b.c",
    "eng-nso",
    "eng-eng",
    "a-b-c",
    "tokenizer.model",
    "/dev/zero",
    [],
    {},
    [[]],
    [{}],
    [None],
    {"": 0},
    {"a": {"a": {}}},
    [1, "a", None, {}],
    ["x"] * 300,
    {str(number): number for number in range(300)},
    [[{"src": "a", "tgt": "b"}]],
    {"src": []},
    {"src": "a", "tgt": 5},
    "0" * 64,
    ["../x"],
    5,
    "extends",
    ["run.json"],
]
SNIPPETS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    '"',
    "'",
    "'''",
    "/*",
    "*/",
    "//",
    "#",
    "\n",
    "\r",
    "\t",
    "\0",
    "\\",
    "\\u",
    "\\ud800",
    "-",
    "- ",
    "? ",
    "| ",
    ">-\n",
    "&a ",
    "*a",
    "<<: *a\n",
    "!!int ",
    "!!timestamp ",
    "!!binary ",
    "!!set ",
    "!!omap ",
    "!x ",
    "%YAML 9\n",
    "---\n",
    "...\n",
    "9" * 4000,
    "9" * 5000,
    "1e999",
    "0x" + "f" * 4000,
    "1:1:1:1",
    "2001-99-99",
    "=",
    "~",
    "[" * 300,
    "{a:" * 300,
    "- " * 200,
    "\u2028",
    "\x85",
    "\ufeff",
    "null",
    "true",
    "NaN",
    "Infinity",
    ".inf",
    "é",
    "@",
    "`",
    "%",
    "x" * 2000,
]


def changed_text(text: str, source: random.Random) -> str:
    """A text after one to four changes."""
    for _ in range(source.randint(1, 4)):
        start = source.randint(0, len(text))
        stop = min(len(text), start + source.choice([0, 1, 1, 3, 20, 200]))
        put = source.choice(["", text[start:stop] * 2, *source.choices(SNIPPETS, k=3)])
        text = text[:start] + put + text[stop:]
    return text


def changed_tree(tree: Any, source: random.Random) -> Any:
    """A copy of a tree of dictionaries and lists after one to four changes."""
    tree = copy.deepcopy(tree)
    for _ in range(source.randint(1, 4)):
        places = list(_places(tree))
        if not places:
            return source.choice(VALUES)
        holder, key = source.choice(places)
        source.choice(_CHANGES)(holder, key, source)
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])


def _replace(holder: Any, key: Any, source: random.Random) -> None:
    holder[key] = copy.deepcopy(source.choice(VALUES))


def _remove(holder: Any, key: Any, source: random.Random) -> None:
    del holder[key]


def _wrap(holder: Any, key: Any, source: random.Random) -> None:
    holder[key] = source.choice([[holder[key]], {"x": holder[key]}, [holder[key], holder[key]]])


def _add(holder: Any, key: Any, source: random.Random) -> None:
    value = copy.deepcopy(source.choice(VALUES))
    if isinstance(holder, dict):
        holder[source.choice(["x", "", "extends", "\u2028", f"{key}s", "k" * 500, "smoe", "pairs", "left_out"])] = value
    else:
        holder.append(value)


def _change(holder: Any, key: Any, source: random.Random) -> None:
    value = holder[key]
    if isinstance(value, str):
        holder[key] = changed_text(value, source)
    elif isinstance(value, (int, float)):
        holder[key] = source.choice([-value, value + 1, value * 10**6, str(value), float(min(value, 1e9)), [value]])
    else:
        _replace(holder, key, source)


_CHANGES: list[Callable[[Any, Any, random.Random], None]] = [_replace, _replace, _remove, _wrap, _add, _change, _change]


@contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """Fails where the block takes this process more time on a processor; a busy machine does not count."""
    began = time.process_time()
    yield
    took = time.process_time() - began
    assert took < seconds, f"{what}: {took:.1f} s"
