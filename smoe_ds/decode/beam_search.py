"""Beam search over a batch of sentences with cached keys and values; all bookkeeping is tensor arithmetic.

The rules are fairseq's, so that scores mean the same:

- of the 2K best continuations of a sentence, those that end the sentence and are among the K best are finished; the K
  best that do not end it live on;
- score = log-probability / length^length_penalty, length with the end of sentence;
- a sentence is done when it has K finished hypotheses, or at its longest length, where the end of sentence is forced;
- an output has at least one token before the end of sentence.

One rule is added, which never changes the best hypothesis: a sentence is also done when no live hypothesis can come to
score better than its best finished one, whatever follows. Done sentences leave the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from smoe_ds.config.decode import DecodeConfig
from smoe_ds.decode.candidates import Continuations, best_continuations, token_log_probs
from smoe_ds.decode.hypothesis import Hypothesis, longest_output
from smoe_ds.errors import CheckpointError
from smoe_ds.model.transformer import PAD_ID, DecoderCache, Encoded


class TranslationModel(Protocol):
    """What beam search needs of a model."""

    def encode(self, src: Tensor) -> Encoded: ...
    def start_decoding(self, encoded: Encoded) -> DecoderCache: ...
    def decode_step(self, tokens: Tensor, cache: DecoderCache) -> Tensor: ...


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids that mean something to the search.

    Attributes:
        eos_id: end of sentence.
        forbidden: tokens that are never generated: padding, begin of sentence, unknown, language tokens.
    """

    eos_id: int
    forbidden: tuple[int, ...]


@torch.inference_mode()
def beam_search(
    model: TranslationModel,
    src: Tensor,
    start_token: Tensor,
    special: SpecialTokens,
    config: DecodeConfig,
    max_positions: int,
) -> list[list[Hypothesis]]:
    """Translates a batch.

    Args:
        model: in evaluation mode.
        src: source token ids [B, S], padded on the right with 0.
        start_token: first input of the decoder [B].
        special: tokens the search must know.
        config: beam size, length penalty, longest output.
        max_positions: positions of the decoder.

    Returns:
        Finished hypotheses of each sentence, best first, 1 to K of them.

    Raises:
        CheckpointError: the model's output is not a number, so that no hypothesis can be finished.
    """
    longest = [longest_output(int(n), config, max_positions) for n in (src != PAD_ID).sum(dim=1).tolist()]
    search = _Search(special, config, torch.tensor(longest, device=src.device))
    cache = model.start_decoding(model.encode(src))
    token = start_token
    while search.num_live:
        logits = model.decode_step(token, cache)
        token, rows, same_sources = search.advance(logits)
        _reorder(cache, rows, same_sources)
    return search.results()


def _reorder(cache: DecoderCache, rows: Tensor, same_sources: bool) -> None:
    """Keeps ``rows`` of the cache; the source's keys and values stay where each row keeps its sentence."""
    if not same_sources:
        cache.reorder(rows)
        return
    for layer in cache.layers:
        if layer.own is not None:
            layer.own = layer.own.select(rows)


class _Search:
    """Live and finished hypotheses of a batch.

    Attributes:
        sentence_B: number of each sentence that is still in the batch.
        log_prob_BW: of each live hypothesis, -inf for an unused place; float64, so that sums do not round.
        tokens_BWT: tokens of each live hypothesis, those of later steps still padding.
    """

    def __init__(self, special: SpecialTokens, config: DecodeConfig, longest_B: Tensor) -> None:
        device, num = longest_B.device, longest_B.numel()
        self.eos_id = special.eos_id
        self.forbidden = torch.tensor(sorted(set(special.forbidden)), dtype=torch.long, device=device)
        self.forbidden_at_first = torch.cat([self.forbidden, self.forbidden.new_tensor([self.eos_id])])
        self.beam_size, self.length_penalty = config.beam_size, config.length_penalty
        self.step = 0
        self.longest_B = longest_B
        self.sentence_B = torch.arange(num, device=device)
        self.log_prob_BW = torch.zeros(num, 1, dtype=torch.float64, device=device)
        self.tokens_BWT = torch.full((num, 1, int(longest_B.max())), PAD_ID, device=device)
        self.finished = _Finished(num, self.beam_size, self.tokens_BWT.shape[2], device)

    @property
    def num_live(self) -> int:
        """Sentences still in the batch."""
        return self.sentence_B.numel()

    def advance(self, logits_RV: Tensor) -> tuple[Tensor, Tensor, bool]:
        """Takes one step.

        Args:
            logits_RV: of the next token of each live hypothesis, sentence by sentence.

        Returns:
            The new last tokens [R'], the row that each continues [R'], and whether every row keeps its sentence.
        """
        width = self.log_prob_BW.shape[1]
        best = self._continue(logits_RV)
        ends_BC = (best.token_BC == self.eos_id) & best.log_prob_BC.isfinite()
        self._finish(best, ends_BC[:, : self.beam_size])
        live = best.select(ends_BC.to(torch.int8).argsort(dim=1, stable=True)[:, : self.beam_size])
        self.step += 1
        keep = (~self._done(live.log_prob_BC)).nonzero().squeeze(1)
        rows = (keep.unsqueeze(1) * width + live.origin_BC[keep]).flatten()
        same_sources = keep.numel() == self.num_live and width == self.beam_size
        self._keep(keep, live)
        return live.token_BC[keep].flatten(), rows, same_sources

    def _continue(self, logits_RV: Tensor) -> Continuations:
        num = 2 * self.beam_size
        eos_only_R = (self.step + 1 >= self.longest_B).repeat_interleave(self.log_prob_BW.shape[1])
        forbidden = self.forbidden if self.step else self.forbidden_at_first
        next_RN, token_RN = token_log_probs(logits_RV, num, forbidden, self.eos_id, eos_only_R)
        return best_continuations(self.log_prob_BW, next_RN, token_RN, num)

    def _finish(self, best: Continuations, ends_BK: Tensor) -> None:
        row, place = ends_BK.nonzero(as_tuple=True)
        if row.numel() == 0:
            return
        log_prob = best.log_prob_BC[row, place]
        score = log_prob / float(self.step + 1) ** self.length_penalty
        tokens = self.tokens_BWT[row, best.origin_BC[row, place]]
        free = ends_BK.cumsum(dim=1)[row, place] - 1
        self.finished.add(self.sentence_B[row], free, tokens, self.step, log_prob, score)

    def _done(self, live_log_prob_BK: Tensor) -> Tensor:
        """[B]: all hypotheses finished, longest length reached, or the best finished one out of reach."""
        full = self.finished.count[self.sentence_B] >= self.beam_size
        # Log-probabilities only fall, so that dividing today's by the longest length bounds every later score.
        reachable = live_log_prob_BK.amax(dim=1) / self.longest_B.double() ** self.length_penalty
        best = self.finished.best[self.sentence_B]
        return full | (self.step >= self.longest_B) | (reachable <= best)

    def _keep(self, keep: Tensor, live: Continuations) -> None:
        self.log_prob_BW = live.log_prob_BC[keep]
        self.tokens_BWT = self.tokens_BWT[keep.unsqueeze(1), live.origin_BC[keep]]
        self.tokens_BWT[:, :, self.step - 1] = live.token_BC[keep]
        self.sentence_B, self.longest_B = self.sentence_B[keep], self.longest_B[keep]

    def results(self) -> list[list[Hypothesis]]:
        """Finished hypotheses of every sentence, best first."""
        return self.finished.hypotheses()


class _Finished:
    """Finished hypotheses of all sentences of a batch, also of those that have left it."""

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

    def hypotheses(self) -> list[list[Hypothesis]]:
        """All of them on the host, best first.

        Raises:
            CheckpointError: a sentence has none.
        """
        columns = (self.count, self.score, self.log_prob, self.length, self.tokens)
        rows: Sequence[tuple[int, list[float], list[float], list[int], list[list[int]]]]
        rows = list(zip(*(column.tolist() for column in columns), strict=True))
        if any(row[0] == 0 for row in rows):
            raise CheckpointError("beam search: the model's output is not a number (NaN); use another checkpoint")
        return [
            sorted(
                (Hypothesis(tuple(tokens[i][: length[i]]), log_prob[i], score[i]) for i in range(count)),
                key=lambda hypothesis: -hypothesis.score,
            )
            for count, score, log_prob, length, tokens in rows
        ]
