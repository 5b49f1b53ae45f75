"""SLURM's compressed lists: host names ``gpu[01-03,07]`` and counts ``4(x2),3``."""

from __future__ import annotations

import re

from smoe_ds.errors import LaunchError

_COUNT = re.compile(r"(\d+)(?:\(x(\d+)\))?")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def expand_nodelist(text: str) -> list[str]:
    """Host names of a compressed node list, in order.

    Args:
        text: e.g. ``"login,gpu[01-03,07],rack[1-2]n[1-2]"``.

    Returns:
        ``["login", "gpu01", "gpu02", "gpu03", "gpu07", "rack1n1", ...]``.

    Raises:
        LaunchError: brackets that do not match, or a range that is not one.
    """
    hosts: list[str] = []
    for item in _split_outside_brackets(text):
        hosts.extend(_expand_item(item, text))
    return hosts


def expand_counts(text: str) -> list[int]:
    """Tasks per node from SLURM's form: ``"4(x2),3"`` becomes ``[4, 4, 3]``.

    Raises:
        LaunchError: the text is not of this form.
    """
    counts: list[int] = []
    for item in text.split(","):
        match = _COUNT.fullmatch(item.strip())
        if not match:
            raise LaunchError(f"tasks per node {text!r}: {item!r} is neither a number nor of the form 4(x2)")
        counts.extend([int(match[1])] * int(match[2] or 1))
    return counts


def _split_outside_brackets(text: str) -> list[str]:
    items, depth, begin = [], 0, 0
    for position, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth not in (0, 1):
            raise LaunchError(f"node list {text!r}: brackets do not match at character {position}")
        if character == "," and depth == 0:
            items.append(text[begin:position])
            begin = position + 1
    if depth:
        raise LaunchError(f"node list {text!r}: a bracket is not closed")
    return [item.strip() for item in [*items, text[begin:]] if item.strip()]


def _expand_item(item: str, text: str) -> list[str]:
    begin = item.find("[")
    if begin < 0:
        return [item]
    end = item.index("]", begin)
    tails = _expand_item(item[end + 1 :], text) if item[end + 1 :] else [""]
    middles: list[str] = []
    for part in item[begin + 1 : end].split(","):
        match = _RANGE.fullmatch(part.strip())
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise LaunchError(f"node list {text!r}: {part!r} is not a range of numbers such as 01-03")
        width = len(match[1])  # leading zeros belong to the name
        middles.extend(f"{number:0{width}d}" for number in range(int(match[1]), int(match[2] or match[1]) + 1))
    return [item[:begin] + middle + tail for middle in middles for tail in tails]
