"""Outputs drawn from the model's distribution, K of each sentence, best score first.

A token is drawn by one uniform number that depends on the seed, the sentence and which of its samples and tokens it is
for, so that neither the batch nor the number of samples changes a sample. Scores are the model's own, as in beam
search: those of the distribution before temperature, ``top_k`` and ``top_p``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from smoe_ds.config.decode import DecodeConfig, SamplingConfig
from smoe_ds.decode.beam_search import AnyCache, TranslationModel, run_search
from smoe_ds.decode.constraints import Allowed, Constraints, SpecialTokens
from smoe_ds.decode.finished import Finished
from smoe_ds.decode.hypothesis import Hypothesis
from smoe_ds.model.transformer import PAD_ID
from smoe_ds.moe.seeding import derive_seed


@torch.inference_mode()
def sample(
    model: TranslationModel[AnyCache],
    src: Tensor,
    start: Tensor,
    special: SpecialTokens,
    config: DecodeConfig,
    max_positions: int,
    prefixes: Sequence[Sequence[int]] | None = None,
) -> list[list[Hypothesis]]:
    """Draws ``beam_size`` outputs of each sentence; arguments and errors as of `beam_search`.

    Returns:
        K of each sentence, best score first; the same output may come more than once.
    """
    start_BN = start.reshape(len(start), -1)
    given = start_BN.shape[1] - 1
    constraints = Constraints(special, config, src, max_positions - given, prefixes)
    search = _Sampling(constraints, config, _uniform(src, start_BN[:, -1], constraints.longest_B, config), given)
    run_search(search, model, src, start_BN)
    return search.finished.hypotheses()


def _uniform(src: Tensor, start_token: Tensor, longest_B: Tensor, config: DecodeConfig) -> Tensor:
    """Numbers in [0, 1) [B, K, T], float64, drawn on the CPU so that every device has the same."""
    numbers_BKT = torch.zeros(len(src), config.beam_size, int(longest_B.max()), dtype=torch.float64)
    rows = zip(src.tolist(), start_token.tolist(), longest_B.tolist(), strict=True)
    for sentence, (source, start, longest) in enumerate(rows):
        tokens = [token for token in source if token != PAD_ID]
        for k in range(config.beam_size):
            generator = torch.Generator().manual_seed(derive_seed(config.sampling.seed, start, tokens, k))
            torch.rand(longest, generator=generator, out=numbers_BKT[sentence, k, :longest])
    return numbers_BKT.to(src.device)


def draw(logits_RV: Tensor, uniform_R: Tensor, sampling: SamplingConfig) -> Tensor:
    """One token of each row, by the inverse of its distribution function.

    Args:
        logits_RV: -inf where a token may not come; each row has one that may.
        uniform_R: in [0, 1), float64.
        sampling: temperature, ``top_k`` and ``top_p``.
    """
    best_RN, order_RN = logits_RV.sort(dim=1, descending=True, stable=True)
    if sampling.top_k:
        best_RN, order_RN = best_RN[:, : sampling.top_k], order_RN[:, : sampling.top_k]
    probs_RN = (best_RN.double() / sampling.temperature).softmax(dim=1)
    likelier_RN = F.pad(probs_RN.cumsum(dim=1)[:, :-1], (1, 0))
    up_to_RN = (probs_RN * (likelier_RN < sampling.top_p)).cumsum(dim=1)
    place_R = (up_to_RN <= uniform_R.unsqueeze(1) * up_to_RN[:, -1:]).sum(dim=1)
    return order_RN.gather(1, place_R.clamp(max=order_RN.shape[1] - 1).unsqueeze(1)).squeeze(1)


class _Sampling:
    """Samples of a batch; a row is a sample that has not ended; ``given`` tokens before it count in the length.

    Attributes:
        sentence_R: whose sample each row is.
        sample_R: which of its samples.
        log_prob_R: float64, so that sums do not round.
        tokens_RT: its tokens, those of later steps still padding.
    """

    def __init__(self, constraints: Constraints, config: DecodeConfig, uniform_BKT: Tensor, given: int) -> None:
        self.constraints, self.config, self.uniform_BKT, self.given = constraints, config, uniform_BKT, given
        num, samples, longest = uniform_BKT.shape
        self.step = 0
        self.sentence_R = torch.arange(num, device=uniform_BKT.device).repeat_interleave(samples)
        self.sample_R = torch.arange(samples, device=uniform_BKT.device).repeat(num)
        self.log_prob_R = torch.zeros_like(self.sentence_R, dtype=torch.float64)
        self.tokens_RT = torch.full((num * samples, longest), PAD_ID, device=uniform_BKT.device)
        self.finished = Finished(num, samples, longest, uniform_BKT.device)

    @property
    def num_live(self) -> int:
        """Samples still in the batch."""
        return self.sentence_R.numel()

    def advance(self, logits_RV: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Takes one step.

        Args:
            logits_RV: of the next token of each sample; in the first step of each sentence.

        Returns:
            The new last tokens [R'], the row that each continues [R'], and the same row's source, since samples of a
            sentence do not end together; None if every row keeps it.
        """
        first = self.step == 0
        if first:
            logits_RV = logits_RV[self.sentence_R]
        allowed = self.constraints.allowed(self.sentence_R, self.tokens_RT, self.step)
        token_R, log_prob_R = self._next(logits_RV.to(torch.promote_types(logits_RV.dtype, torch.float32)), allowed)
        self.log_prob_R = self.log_prob_R + log_prob_R
        ended_R = token_R == self.constraints.eos_id
        self._finish(ended_R)
        self.tokens_RT[:, self.step] = token_R
        self.step += 1
        keep = (~ended_R).nonzero().squeeze(1)
        rows = self.sentence_R[keep] if first else keep
        all_stay = not first and keep.numel() == self.num_live
        self.sentence_R, self.sample_R = self.sentence_R[keep], self.sample_R[keep]
        self.log_prob_R, self.tokens_RT = self.log_prob_R[keep], self.tokens_RT[keep]
        return token_R[keep], rows, None if all_stay else rows

    def _next(self, logits_RV: Tensor, allowed: Allowed) -> tuple[Tensor, Tensor]:
        """The next token of each row and its log-probability; ``logits_RV`` is not changed."""
        masked_RV = logits_RV.clone()
        allowed.mask(masked_RV)
        drawn_R = draw(masked_RV, self.uniform_BKT[self.sentence_R, self.sample_R, self.step], self.config.sampling)
        token_R = torch.where(allowed.is_only(masked_RV.amax(dim=1)), allowed.only_or_eos_R, drawn_R)
        logit_R = logits_RV.gather(1, token_R.unsqueeze(1)).squeeze(1)
        return token_R, (logit_R - logits_RV.logsumexp(dim=1)).double()

    def _finish(self, ended_R: Tensor) -> None:
        sentence, log_prob = self.sentence_R[ended_R], self.log_prob_R[ended_R]
        if sentence.numel() == 0:
            return
        ended_BK = torch.zeros(self.uniform_BKT.shape[:2], dtype=torch.long, device=sentence.device)
        place = (sentence, self.sample_R[ended_R])
        ended_BK[place] = 1
        score = log_prob / float(self.given + self.step + 1) ** self.config.length_penalty
        free = ended_BK.cumsum(dim=1)[place] - 1
        self.finished.add(sentence, free, self.tokens_RT[ended_R], self.step, log_prob, score)
