"""What may come next in an output: shortest and longest length, forced prefix, no n-gram twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smoe_ds.config.decode import DecodeConfig
from smoe_ds.decode.hypothesis import longest_output
from smoe_ds.model.transformer import PAD_ID

ANY = -1
"""In ``only_R``: any token that is not forbidden."""


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids that mean something to the search.

    Attributes:
        eos_id: end of sentence.
        forbidden: tokens that are never generated: padding, begin of sentence, unknown, language tokens.
    """

    eos_id: int
    forbidden: tuple[int, ...]


@dataclass(frozen=True)
class Allowed:
    """What may come next in each row.

    Attributes:
        forbidden: ids that come in no row.
        banned: pairs (row [N], id [N]) that may not come; None: there are none.
        only_R: the one token that may come, even if it is forbidden; ``ANY``: any that the others leave.
        eos_id: end of sentence; it comes where nothing else may.
    """

    forbidden: Tensor
    banned: tuple[Tensor, Tensor] | None
    only_R: Tensor
    eos_id: int

    def mask(self, logits_RV: Tensor) -> None:
        """Puts -inf where a token may not come, ``only_R`` left aside."""
        logits_RV.index_fill_(1, self.forbidden, -torch.inf)
        if self.banned is not None:
            logits_RV[self.banned] = -torch.inf

    @property
    def only_or_eos_R(self) -> Tensor:
        """``only_R``, and the end of sentence elsewhere."""
        return self.only_R.masked_fill(self.only_R == ANY, self.eos_id)

    def is_only(self, highest_R: Tensor) -> Tensor:
        """Where `only_or_eos_R` must come: as asked, or since the highest masked logit leaves nothing else."""
        return (self.only_R != ANY) | (highest_R == -torch.inf)


class Constraints:
    """The rules for the outputs of a batch.

    Args:
        special: the tokens that are never generated, and the end of sentence.
        config: shortest and longest output, n-grams.
        src: source token ids [B, S], padded on the right with 0.
        max_positions: positions of the decoder.
        prefixes: tokens that each output begins with; they may hold forbidden ones.

    Attributes:
        longest_B: most tokens of each output, the end of sentence included; at least the prefix and that.
    """

    def __init__(
        self,
        special: SpecialTokens,
        config: DecodeConfig,
        src: Tensor,
        max_positions: int,
        prefixes: Sequence[Sequence[int]] | None,
    ) -> None:
        device = src.device
        self.eos_id = special.eos_id
        self.forbidden = torch.tensor(sorted(set(special.forbidden)), dtype=torch.long, device=device)
        self.forbidden_early = torch.cat([self.forbidden, self.forbidden.new_tensor([self.eos_id])])
        self.min_length, self.ngram = config.min_length, config.no_repeat_ngram
        longest = [longest_output(int(n), config, max_positions) for n in (src != PAD_ID).sum(dim=1).tolist()]
        self._prefix_BP: Tensor | None = None
        if prefixes is not None:
            longest = [max(most, len(prefix) + 1) for most, prefix in zip(longest, prefixes, strict=True)]
            width = max(map(len, prefixes))
            rows = [[*prefix, *[ANY] * (width - len(prefix))] for prefix in prefixes]
            self._prefix_BP = torch.tensor(rows, dtype=torch.long, device=device).view(len(rows), width)
        self.longest_B = torch.tensor(longest, device=device)

    def allowed(self, sentence_R: Tensor, tokens_RT: Tensor, step: int) -> Allowed:
        """What may follow the first ``step`` tokens of each row.

        Args:
            sentence_R: whose row it is.
            tokens_RT: the output so far, padding after it.
            step: its tokens.
        """
        ends_R = step + 1 >= self.longest_B[sentence_R]
        only_R = torch.full_like(sentence_R, ANY)
        if self._prefix_BP is not None and step < self._prefix_BP.shape[1]:
            only_R = self._prefix_BP[sentence_R, step]
        return Allowed(
            self.forbidden_early if step < self.min_length else self.forbidden,
            repeats(tokens_RT[:, :step], self.ngram) if 0 < self.ngram <= step else None,
            only_R.masked_fill(ends_R, self.eos_id),
            self.eos_id,
        )


def repeats(tokens_RT: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The tokens that would end an n-gram which a row has already.

    Args:
        tokens_RT: outputs so far, all of one length, at least n.
        n: 1 or more.

    Returns:
        Rows and token ids; a pair may come more than once.
    """
    last = tokens_RT.shape[1] - n + 1
    grams_RIN = tokens_RT.unfold(1, n, 1)
    same_RI = (grams_RIN[..., :-1] == tokens_RT[:, None, last:]).all(dim=2)
    row, place = same_RI.nonzero(as_tuple=True)
    return row, grams_RIN[row, place, -1]
