"""Keys of many sentences at once; what `normalise.key` and `normalise.near_key` give one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from data_prep.characters import NOTHING, SPACE, characters
from data_prep.code_points import CodePoints
from data_prep.normalise import key, near_key

_NEW_LINE = 10
_ENCODING = {2: "utf-16-le", 4: "utf-32-le"}


def keys_of_texts(texts: Sequence[str], points: CodePoints, slow: np.ndarray) -> list[bytes]:
    """The key of every sentence, UTF-8.

    Args:
        texts: the sentences as `tidy` leaves them.
        points: the sentences as they were read.
        slow: where these differ, or characters do not fold one by one, bool [N]; these are looked at one by one.
    """
    keys = _fast_keys(points)
    empty = [row for row, found in enumerate(keys) if not found]
    for row in (*empty, *np.flatnonzero(slow).tolist()):
        keys[row] = key(texts[row]).encode("utf-8")
    return keys


def _fast_keys(points: CodePoints) -> list[bytes]:
    """Keys of sentences whose characters fold one by one; empty where nothing is left."""
    folded = points.look_up(characters().folded).astype(points.values.dtype)
    folded[points.ends] = _NEW_LINE
    if (folded == NOTHING).any():
        folded = folded[folded != NOTHING]
    blank, line_end = folded == SPACE, folded == _NEW_LINE
    dropped = np.zeros(len(folded), bool)  # of blanks side by side all but the last, that one before a line end too
    dropped[:-1] = blank[:-1] & (blank | line_end)[1:]
    starts = np.concatenate([[0], np.flatnonzero(line_end)[:-1] + 1])
    leading = starts[blank[starts]]
    while len(leading):  # also the last of the blanks that a sentence begins with
        dropped[leading] = True
        leading = leading[blank[leading + 1]] + 1
    folded *= ~dropped
    text = folded.tobytes().decode(_ENCODING[folded.itemsize]).encode("utf-8")
    return text.replace(b"\0", b"").split(b"\n")[:-1]


def hashes_of(keys: Iterable[bytes]) -> np.ndarray:
    """`normalise.digest` of texts in UTF-8, uint64."""
    digests = b"".join([hashlib.blake2b(key, digest_size=8).digest() for key in keys])
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def near_hashes_of(hashes: np.ndarray, keys: Sequence[bytes], differ: np.ndarray) -> np.ndarray:
    """Hashes of the near keys.

    Args:
        hashes: of the keys, uint64 [N].
        keys: the keys.
        differ: sentences whose near key may differ from the key, bool [N].
    """
    rows = np.flatnonzero(differ)
    near = hashes.copy()
    if len(rows):
        joined = b"\n".join([keys[row] for row in rows.tolist()]).decode("utf-8")  # a number does not cross lines
        near[rows] = hashes_of(near_key(joined).encode("utf-8").split(b"\n"))
    return near
