"""Beam search over a batch of sentences with cached keys and values; all bookkeeping is tensor arithmetic.

The rules are fairseq's, so that scores mean the same:

- of the 2K best continuations of a sentence, those that end the sentence and are among the K best are finished; the K
  best that do not end it live on;
- score = log-probability / length^length_penalty, length with the end of sentence;
- a sentence is done when it has K finished hypotheses, or at its longest length, where the end of sentence is forced;
- an output has at least ``min_length`` tokens before the end of sentence;
- the tokens of a forced prefix count in the score as all others.

Tokens that the decoder starts with after its first one, as M2M100's language token, are given: they count in the length
alone (as in transformers' ``generate``).

One rule is added, which never changes the best hypothesis: a sentence is also done when no live hypothesis can come to
score better than its best finished one, whatever follows. Where the N best are wanted, it is the N-th best finished
one. Done sentences leave the batch. What an output may be is in ``constraints.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from smoe_ds.config.decode import DecodeConfig
from smoe_ds.decode.candidates import Continuations, best_continuations, token_log_probs
from smoe_ds.decode.constraints import Constraints, SpecialTokens
from smoe_ds.decode.finished import Finished
from smoe_ds.decode.hypothesis import Hypothesis
from smoe_ds.model.transformer import PAD_ID, Encoded


class Cache(Protocol):
    """What a model keeps between steps."""

    def reorder(self, rows: Tensor, sources: Tensor | None) -> None: ...


AnyCache = TypeVar("AnyCache", bound=Cache)


class TranslationModel(Protocol[AnyCache]):
    """What beam search needs of a model."""

    def encode(self, src: Tensor, *, start: Tensor | None = None) -> Encoded: ...
    def start_decoding(self, encoded: Encoded) -> AnyCache: ...
    def decode_step(self, tokens: Tensor, cache: AnyCache) -> Tensor: ...


class Search(Protocol):
    """Takes the model's output step by step."""

    @property
    def num_live(self) -> int: ...
    def advance(self, logits_RV: Tensor) -> tuple[Tensor, Tensor, Tensor | None]: ...


@torch.inference_mode()
def beam_search(
    model: TranslationModel[AnyCache],
    src: Tensor,
    start: Tensor,
    special: SpecialTokens,
    config: DecodeConfig,
    max_positions: int,
    prefixes: Sequence[Sequence[int]] | None = None,
    n_best: int = 1,
) -> list[list[Hypothesis]]:
    """Translates a batch.

    Args:
        model: in evaluation mode.
        src: source token ids [B, S], padded on the right with 0.
        start: first inputs of the decoder [B, N], or [B] for one.
        special: tokens the search must know.
        config: beam size, length penalty, what an output may be.
        max_positions: positions of the decoder.
        prefixes: tokens that each output begins with, fewer than ``max_positions``.
        n_best: how many of the hypotheses returned must be the best there are, at most K.

    Returns:
        Finished hypotheses of each sentence, best first, 1 to K of them.

    Raises:
        CheckpointError: the model's output is not a number, so that no hypothesis can be finished.
    """
    start_BN = start.reshape(len(start), -1)
    given = start_BN.shape[1] - 1
    constraints = Constraints(special, config, src, max_positions - given, prefixes)
    search = _Search(constraints, config, n_best, given)
    run_search(search, model, src, start_BN)
    return search.finished.hypotheses()


def run_search(search: Search, model: TranslationModel[AnyCache], src: Tensor, start_BN: Tensor) -> None:
    """Feeds a search until no sentence is left; for arguments see `beam_search`."""
    cache = model.start_decoding(model.encode(src, start=start_BN[:, 0]))
    *given, token = start_BN.unbind(1)
    for one in given:
        model.decode_step(one, cache)
    while search.num_live:
        logits = model.decode_step(token, cache)
        token, rows, sources = search.advance(logits)
        cache.reorder(rows, sources)


class _Search:
    """Live and finished hypotheses of a batch; ``given`` tokens before them count in the length.

    Attributes:
        sentence_B: number of each sentence that is still in the batch.
        log_prob_BW: of each live hypothesis, -inf for an unused place; float64, so that sums do not round.
        tokens_BWT: tokens of each live hypothesis, those of later steps still padding.
    """

    def __init__(self, constraints: Constraints, config: DecodeConfig, n_best: int, given: int) -> None:
        self.constraints, self.eos_id, self.given = constraints, constraints.eos_id, given
        self.longest_B = constraints.longest_B
        device, num = self.longest_B.device, self.longest_B.numel()
        self.beam_size, self.length_penalty, self.n_best = config.beam_size, config.length_penalty, n_best
        self.step = 0
        self.sentence_B = torch.arange(num, device=device)
        self.log_prob_BW = torch.zeros(num, 1, dtype=torch.float64, device=device)
        self.tokens_BWT = torch.full((num, 1, int(self.longest_B.max())), PAD_ID, device=device)
        self.finished = Finished(num, self.beam_size, self.tokens_BWT.shape[2], device)

    @property
    def num_live(self) -> int:
        """Sentences still in the batch."""
        return self.sentence_B.numel()

    def advance(self, logits_RV: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Takes one step.

        Args:
            logits_RV: of the next token of each live hypothesis, sentence by sentence.

        Returns:
            The new last tokens [R'], the row that each continues [R'], and which sentences of the batch stay; None if
            all do.
        """
        width = self.log_prob_BW.shape[1]
        best = self._continue(logits_RV)
        ends_BC = (best.token_BC == self.eos_id) & best.log_prob_BC.isfinite()
        self._finish(best, ends_BC[:, : self.beam_size])
        live = best.select(ends_BC.to(torch.int8).argsort(dim=1, stable=True)[:, : self.beam_size])
        self.step += 1
        keep = (~self._done(live.log_prob_BC)).nonzero().squeeze(1)
        rows = (keep.unsqueeze(1) * width + live.origin_BC[keep]).flatten()
        all_stay = keep.numel() == self.num_live
        self._keep(keep, live)
        return live.token_BC[keep].flatten(), rows, None if all_stay else keep

    def _continue(self, logits_RV: Tensor) -> Continuations:
        num = 2 * self.beam_size
        sentence_R = self.sentence_B.repeat_interleave(self.log_prob_BW.shape[1])
        allowed = self.constraints.allowed(sentence_R, self.tokens_BWT.flatten(0, 1), self.step)
        next_RN, token_RN = token_log_probs(logits_RV, num, allowed)
        return best_continuations(self.log_prob_BW, next_RN, token_RN, num)

    def _finish(self, best: Continuations, ends_BK: Tensor) -> None:
        row, place = ends_BK.nonzero(as_tuple=True)
        if row.numel() == 0:
            return
        log_prob = best.log_prob_BC[row, place]
        score = log_prob / float(self.given + self.step + 1) ** self.length_penalty
        tokens = self.tokens_BWT[row, best.origin_BC[row, place]]
        free = ends_BK.cumsum(dim=1)[row, place] - 1
        self.finished.add(self.sentence_B[row], free, tokens, self.step, log_prob, score)

    def _done(self, live_log_prob_BK: Tensor) -> Tensor:
        """[B]: all hypotheses finished, longest length reached, or the best finished ones out of reach."""
        full = self.finished.count[self.sentence_B] >= self.beam_size
        # Log-probabilities only fall, so that dividing today's by the longest length bounds every later score.
        reachable = live_log_prob_BK.amax(dim=1) / (self.given + self.longest_B).double() ** self.length_penalty
        best = self.finished.nth_best(self.n_best, self.sentence_B)
        return full | (self.step >= self.longest_B) | (reachable <= best)

    def _keep(self, keep: Tensor, live: Continuations) -> None:
        self.log_prob_BW = live.log_prob_BC[keep]
        self.tokens_BWT = self.tokens_BWT[keep.unsqueeze(1), live.origin_BC[keep]]
        self.tokens_BWT[:, :, self.step - 1] = live.token_BC[keep]
        self.sentence_B, self.longest_B = self.sentence_B[keep], self.longest_B[keep]
