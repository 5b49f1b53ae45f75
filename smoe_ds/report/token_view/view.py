"""The paths of a sentence's tokens as HTML."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from smoe_ds.analysis.routing_use import SIDES, language_of
from smoe_ds.analysis.token_paths import BlockPaths, SentencePaths
from smoe_ds.report.templates import templates_of
from smoe_ds.text_line import spelled_out

LEVELS = 7
"""Colours, from a requested capacity of 1 to the number of strata."""
UNDETERMINED = "und"
"""Stands in a direction for a language that is not known (ISO 639-2)."""
_ENVIRONMENT = templates_of("smoe_ds.report.token_view")
_ENVIRONMENT.filters["beginning"] = lambda text: text if len(text) <= _MOST else f"{text[:_MOST]}…"
_MOST = 2000
"""Characters shown of a text above its tokens."""
_TITLES = {"encoder": "Source", "decoder": "Translation"}


def _file(name: str) -> Markup:
    assert _ENVIRONMENT.loader is not None
    return Markup(_ENVIRONMENT.loader.get_source(_ENVIRONMENT, name)[0])


STYLE, SCRIPT = _file("token_view.css"), _file("token_view.js")
"""Shared by all views of a page."""


def token_view(paths: SentencePaths, *, show_text: bool = True) -> Markup:
    """A sentence and its translation as an HTML element.

    Args:
        paths: what their tokens did; without blocks (a dense model) tokens are shown without colour.
        show_text: whether the sentence, the translation and the reference stand above the tokens.
    """
    return Markup(
        _ENVIRONMENT.get_template("token_view.html").render(
            paths=paths,
            show_text=show_text,
            levels=LEVELS,
            most=max((len(block.strata) for block in paths.blocks), default=1),
            sides=[_side(paths, side) for side in SIDES],
            places=_places(paths.blocks),
        )
    )


def right_to_left(text: str) -> bool:
    """Whether the first letter with a direction of its own is written from right to left."""
    directions = map(unicodedata.bidirectional, text)
    return next((kind for kind in directions if kind in ("L", "R", "AL")), "L") != "L"


def _side(paths: SentencePaths, side: str) -> dict[str, Any]:
    """What the template shows of a side."""
    blocks = [block for block in paths.blocks if block.side == side]
    language = language_of(side, paths.direction)
    text = paths.source if side == "encoder" else paths.translation
    return {
        "name": side,
        "title": _TITLES[side],
        "language": language,
        "label": "language not given" if language == UNDETERMINED else language,
        "rtl": right_to_left(text),
        "has_blocks": bool(blocks),
        "tokens": [_token(spelled_out(token), t, blocks) for t, token in enumerate(paths.tokens[side])],
    }


def _token(spelling: str, number: int, blocks: Sequence[BlockPaths]) -> dict[str, Any]:
    """What the page knows of a token: by place (the mean over blocks, then each block) its capacity and colour."""
    strata = [len(block.strata) for block in blocks]
    rc = [block.requested_capacities[number] for block in blocks]
    if blocks:
        rc, strata = [sum(rc) / len(rc), *rc], [max(strata), *strata]
    levels = [level(value, most) for value, most in zip(rc, strata, strict=True)]
    slices = [[[_pass(one) for one in path] for path in block.tokens[number]] for block in blocks]
    data = {"rc": [round(value, 2) for value in rc], "level": levels, "paths": slices}
    return {
        "text": spelling,
        "rc": format(rc[0], ".2f") if rc else None,
        "level": levels[0] if levels else None,
        "data": _json(data),
    }


def _pass(one: Any) -> list[Any]:
    """``[stratum, [[expert, weight], ...]]``."""
    return [one.stratum, [[e, round(w, 3)] for e, w in zip(one.experts, one.weights, strict=True)]]


def level(requested_capacity: float, num_strata: int) -> int:
    """Number of a token's colour, from 0 for one stratum to `LEVELS` - 1 for all.

    Args:
        requested_capacity: between 1 and ``num_strata``.
        num_strata: of the block.
    """
    return round((requested_capacity - 1) / max(num_strata - 1, 1) * (LEVELS - 1))


def _places(blocks: Sequence[BlockPaths]) -> str:
    """The blocks in their order, for the script."""
    in_side = {side: [block for block in blocks if block.side == side] for side in SIDES}
    return _json(
        [
            {"name": block.name, "side": side, "index": index, "strata": list(block.strata), "heads": block.heads}
            for side in SIDES
            for index, block in enumerate(in_side[side])
        ]
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
