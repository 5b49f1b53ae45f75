"""Keys of many sentences at once; what `normalise.key` and `normalise.near_key` give one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data_prep.text.code_points import CodePoints
from data_prep.text.sentence_key import key, near_key

_ENCODING = {2: "utf-16-le", 4: "utf-32-le"}
_BLAKE2B = hashlib.blake2b(digest_size=8)


def keys_of_sentences(
    points: CodePoints, folded: np.ndarray, slow: np.ndarray, tidied: Mapping[int, str]
) -> list[bytes]:
    """The key of every sentence, UTF-8.

    Args:
        points: the sentences as they were read.
        folded: what each of their code points counts as in a key, [C], as in `Characters.folded`.
        slow: where characters do not fold one by one, bool [N]; these are looked at one by one.
        tidied: by number of the sentence those that `tidy` changed.
    """
    keys = _fast_keys(folded).split(b"\n")[:-1]
    rows = np.flatnonzero(slow).tolist()
    if b"" in keys:
        rows += [row for row, found in enumerate(keys) if not found]
    for row in rows:
        text = tidied[row] if row in tidied else points.sentence(row)
        keys[row] = key(text).encode("utf-8")
    return keys


def _fast_keys(folded: np.ndarray) -> bytes:
    """Keys of sentences whose characters fold one by one, a line each; empty where nothing is left."""
    return folded.tobytes().decode(_ENCODING[folded.itemsize]).encode("utf-8").translate(None, b"\0")  # `NOTHING`


def hashes_of(keys: Iterable[bytes]) -> np.ndarray:
    """`normalise.digest` of texts in UTF-8, uint64."""
    digests = []
    for key_of_text in keys:
        digest = _BLAKE2B.copy()  # faster than a new one
        digest.update(key_of_text)
        digests.append(digest.digest())
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


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
