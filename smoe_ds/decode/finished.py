"""Finished hypotheses of a batch, on its device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from smoe_ds.decode.hypothesis import Hypothesis
from smoe_ds.errors import CheckpointError
from smoe_ds.model.transformer import PAD_ID


class Finished:
    """Finished hypotheses of all sentences of a batch, also of those that have left it.

    Args:
        num_sentences: B.
        beam_size: K, places of a sentence.
        longest: tokens of the longest output.
        device: where they are kept.

    Attributes:
        count: hypotheses of each sentence so far [B].
        best: score of its best one [B], -inf where there is none; float64.
    """

    def __init__(self, num_sentences: int, beam_size: int, longest: int, device: torch.device) -> None:
        size = (num_sentences, beam_size)
        self.count = torch.zeros(num_sentences, dtype=torch.long, device=device)
        self.best = torch.full((num_sentences,), -torch.inf, dtype=torch.float64, device=device)
        self.score = torch.full(size, -torch.inf, dtype=torch.float64, device=device)
        self.log_prob = torch.zeros(size, dtype=torch.float64, device=device)
        self.length = torch.zeros(size, dtype=torch.long, device=device)
        self.tokens = torch.full((*size, longest), PAD_ID, device=device)

    def add(
        self, sentence: Tensor, free: Tensor, tokens_NT: Tensor, length: int, log_prob: Tensor, score: Tensor
    ) -> None:
        """Adds N hypotheses, best first within a sentence; those for which a sentence has no place are left out.

        Args:
            sentence: whose they are [N].
            free: which of the sentence's free places each takes, from 0 [N].
            tokens_NT: their tokens, the first ``length`` ones.
            length: tokens, the end of sentence not counted.
            log_prob: [N].
            score: [N].
        """
        place = self.count[sentence] + free
        fits = place < self.score.shape[1]
        sentence, place, score = sentence[fits], place[fits], score[fits]
        self.score[sentence, place] = score
        self.log_prob[sentence, place] = log_prob[fits]
        self.length[sentence, place] = length
        self.tokens[sentence, place] = tokens_NT[fits]
        self.count.index_add_(0, sentence, torch.ones_like(sentence))
        self.best.scatter_reduce_(0, sentence, score, "amax")

    def nth_best(self, n: int, sentence: Tensor) -> Tensor:
        """Score of the ``n``-th best hypothesis of some sentences, -inf where there are fewer."""
        return self.best[sentence] if n == 1 else self.score[sentence].topk(n, dim=1).values[:, -1]

    def hypotheses(self) -> list[list[Hypothesis]]:
        """All of them on the host, best first.

        Raises:
            CheckpointError: a sentence has none, or one without a score.
        """
        columns = (self.count, self.score, self.log_prob, self.length, self.tokens)
        rows: Sequence[tuple[int, list[float], list[float], list[int], list[list[int]]]]
        rows = list(zip(*(column.tolist() for column in columns), strict=True))
        if any(count == 0 or any(map(math.isnan, score)) for count, score, *_ in rows):
            raise CheckpointError("decoding: the model's output is not a number (NaN); use another checkpoint")
        return [
            sorted(
                (Hypothesis(tuple(tokens[i][: length[i]]), log_prob[i], score[i]) for i in range(count)),
                key=lambda hypothesis: -hypothesis.score,
            )
            for count, score, log_prob, length, tokens in rows
        ]
