"""Sentences of similar length together, within a token budget."""

from __future__ import annotations

from collections.abc import Sequence


def batches_by_length(lengths: Sequence[int], max_tokens: int, copies: int = 1) -> list[list[int]]:
    """Cuts sentences into batches, longest first, so that what does not fit memory fails at once.

    Args:
        lengths: tokens of each sentence.
        max_tokens: most tokens in a batch, padding and copies counted; a sentence above it is a batch of its own.
        copies: rows per sentence, e.g. the beam size.

    Returns:
        Numbers of the sentences in each batch; every sentence is in exactly one.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    for i in order:
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) * copies <= max_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
