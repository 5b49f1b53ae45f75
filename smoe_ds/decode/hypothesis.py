"""A finished translation hypothesis, its score, and how long it may be."""

from __future__ import annotations

from dataclasses import dataclass

from smoe_ds.config.decode import DecodeConfig

EXTRA_LENGTH = 10


@dataclass(frozen=True)
class Hypothesis:
    """A finished output.

    Attributes:
        tokens: token ids without the end of sentence.
        log_prob: sum of log-probabilities, the end of sentence included [nat].
        score: ``log_prob / length^length_penalty``; the length counts the end of sentence, as in fairseq, and
            the tokens that the decoder starts with after its first one.
    """

    tokens: tuple[int, ...]
    log_prob: float
    score: float


def longest_output(num_source_tokens: int, config: DecodeConfig, max_positions: int) -> int:
    """Most tokens of an output, end of sentence included; a function of the sentence alone, not of its batch.

    Args:
        num_source_tokens: tokens the encoder sees, special tokens included.
        config: gives ``max_length_factor``.
        max_positions: positions of the decoder, one per output token.
    """
    return min(int(config.max_length_factor * num_source_tokens) + EXTRA_LENGTH, max_positions)
