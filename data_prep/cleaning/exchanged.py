"""Texts whose sides are exchanged as a whole, by what is known of their languages, or by what other texts show of them.

Within such a text nothing shows: all its lines agree. Where the function words of one of the languages are known, they
decide. Else the frequent words of either side are compared with those of the same language elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from zlib import crc32

import numpy as np

from data_prep.cleaning.swapped import NUM_BUCKETS, FrequentWords, Sides
from data_prep.languages.codes import same_language
from data_prep.languages.function_words import function_words

_ENOUGH_LINES, _ENOUGH_WORDS = 50, 20  # less tells nothing
_MARGIN = 0.2  # real text of 100 pairs: a side is like its language elsewhere by 0.35 to 0.85, the other by 0.1 at most
_FEW_LINES, _FEW_WORDS = 20, 20  # less tells nothing, for function words, which are many in any text
_DIFFERENT = 3  # of them, that one frequent word may not decide alone
_SHARE, _TIMES = 0.1, 3.0  # so much more must they be on one side, and so many times as many


def exchanged_texts(
    texts: Mapping[tuple[str, str], Sides], same_languages: Iterable[Iterable[str]] = ()
) -> list[tuple[str, str]]:
    """Finds texts of which either side is in the language of the other one.

    Args:
        texts: the sides, by pair and split.
        same_languages: groups of languages to take as one.

    Returns:
        pair and split of the texts that look exchanged as a whole.
    """
    by_language: dict[str, dict[str, list[tuple[str, int]]]] = {}
    for pair, split in texts:
        for side, language in enumerate(pair.split("-")):
            name = same_language(language, same_languages)
            by_language.setdefault(name, {}).setdefault(pair, []).append((split, side))
    evidence = dict.fromkeys(texts, 0.0)
    known = {name: by_function_words(name[0], text) for name, text in texts.items()}
    shared = {pair for pairs in by_language.values() if len(pairs) > 1 for pair in pairs}
    for pairs in by_language.values():
        if len(pairs) == 1 and shared.issuperset(pairs):
            continue  # the splits of a pair may all be exchanged; other pairs know better
        for pair, split, found in _evidence(texts, pairs):
            evidence[pair, split] += found
    return [name for name, found in evidence.items() if (found > _MARGIN if known[name] is None else known[name])]


def by_function_words(pair: str, text: Sides) -> bool | None:
    """Whether the function words of a text's languages are on the other side; None if they do not tell."""
    if text.number < _FEW_LINES or min(int(side.counts.sum()) for side in text.words) < _FEW_WORDS:
        return None
    shares = np.zeros(2)  # of their own side, and of the other
    different = np.zeros(2, int)
    for side, language in enumerate(pair.split("-")):
        buckets = [crc32(word.encode()) % NUM_BUCKETS for word in function_words(language)]
        for place, words in enumerate((text.words[side], text.words[1 - side])):
            found = np.isin(words.buckets, buckets)
            shares[place] += words.counts[found].sum() / words.counts.sum()
            different[place] += np.count_nonzero(found)
    most = int(shares.argmax())
    tells = shares[most] - shares[1 - most] > _SHARE and shares[most] > _TIMES * shares[1 - most]
    return most == 1 if tells and different[most] >= _DIFFERENT else None


def _evidence(
    texts: Mapping[tuple[str, str], Sides], pairs: Mapping[str, list[tuple[str, int]]]
) -> Iterator[tuple[str, str, float]]:
    """How much more like a language the wrong side of each of its texts is than the right one, -1 to 1.

    Args:
        texts: the sides, by pair and split.
        pairs: by pair that the language is in, splits and the language's side.
    """
    everywhere = np.zeros(NUM_BUCKETS, np.int64)
    for pair, places in pairs.items():
        _add(everywhere, [texts[pair, split].words[side] for split, side in places], 1)
    for pair, places in pairs.items():
        for split, side in places:
            text = texts[pair, split]
            own = places if len(pairs) > 1 else [(split, side)]  # of a lone pair the other splits are compared
            mine = [texts[pair, name].words[which] for name, which in own]
            _add(everywhere, mine, -1)
            if text.number >= _ENOUGH_LINES and _tell_enough(everywhere, text):
                right, wrong = (likeness(text.words[which], everywhere) for which in (side, 1 - side))
                yield pair, split, wrong - right
            _add(everywhere, mine, 1)


def _add(counts: np.ndarray, sides: list[FrequentWords], sign: int) -> None:
    for words in sides:
        counts[words.buckets] += sign * words.counts


def _tell_enough(counts: np.ndarray, text: Sides) -> bool:
    words = [int(np.count_nonzero(counts)), *(len(side.buckets) for side in text.words)]
    return min(words) >= _ENOUGH_WORDS


def likeness(words: FrequentWords, counts: np.ndarray) -> float:
    """Bhattacharyya coefficient of two distributions of words: 0 where none is shared, 1 where both are the same.

    Args:
        words: of a text.
        counts: of all words by bucket, int64 [NUM_BUCKETS].
    """
    return float(np.sqrt(words.counts / words.counts.sum() * (counts[words.buckets] / counts.sum())).sum())
