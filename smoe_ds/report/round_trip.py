"""Which held-out sentences a corpus's vocabulary does not give back, as text."""

from __future__ import annotations

from collections.abc import Mapping

from smoe_ds.data.round_trip import RoundTrip, first_difference
from smoe_ds.text_line import unprintable_spelled_out


def round_trip_text(normalization: str, found: Mapping[str, RoundTrip]) -> str:
    """A line, or one for every language with sentences that do not come back as they are.

    Args:
        normalization: name of the vocabulary's rule.
        found: what was compared, by language.
    """
    rule = f"vocabulary (normalization {normalization or 'without a name'})"
    compared = sum(language.compared for language in found.values())
    lines = [_line(name, language) for name, language in found.items() if language.changed]
    if not lines:
        return f"{rule}: all of {compared:,} held-out sentences come back from their pieces as they are"
    return "\n".join([f"{rule}: held-out sentences that do not come back from their pieces as they are:", *lines])


def _line(name: str, language: RoundTrip) -> str:
    before, after = (unprintable_spelled_out(text) for text in first_difference(*language.changed[0]))
    share = len(language.changed) / language.compared
    return f"  {name}: {len(language.changed):,} of {language.compared:,} ({share:.2%}): “{before}” becomes “{after}”"
