"""Characters that a vocabulary loses: it has no piece for them and no bytes to spell them in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from smoe_ds.data.ragged import Ragged
from smoe_ds.data.tokenizer import UNK_ID, Tokenizer
from smoe_ds.text_line import unprintable_spelled_out

MAX_CHARACTERS = 20
"""Characters of a language that the report names: the most frequent ones."""


def lost_characters(tokenizer: Tokenizer, lines: Sequence[bytes], rows: Ragged) -> Counter[str]:
    """How often each character is lost; spaces are none.

    Args:
        tokenizer: the vocabulary.
        lines: sentences, UTF-8.
        rows: their ids.
    """
    line_of_id = np.repeat(np.arange(len(rows)), rows.lengths)
    found: Counter[str] = Counter()
    for number in np.unique(line_of_id[rows.values == UNK_ID]).tolist():
        for text in tokenizer.unknown_parts(lines[number].decode("utf-8")):
            found.update(character for character in text if not character.isspace())
    return found


def most_lost(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """The most frequent: ``character``, spelled out if it is not seen by itself, ``code_point`` and ``count``."""
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        {"character": unprintable_spelled_out(character), "code_point": f"U+{ord(character):04X}", "count": count}
        for character, count in order[:MAX_CHARACTERS]
    ]
