"""What a router is told and what it answers: the pairs of tokens and experts of one stratum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """What is known of tokens beside their vectors.

    Attributes:
        ids: vocabulary ids of the input at their positions [T], int64.
        language: id of the first token of their sentence [T], int64: the token of the target language where a run puts
            one there.
        sentence: number of their sentence in the batch [T], int64.
        num_sentences: sentences of the batch, those without a token here too.
        pair_B2: ids of the source's and of the target's language token of each sentence of the batch [B, 2], int64;
            None if nobody told.
    """

    ids: Tensor
    language: Tensor
    sentence: Tensor
    num_sentences: int
    pair_B2: Tensor | None = None

    @staticmethod
    def of(token_ids: Tensor, language: Tensor | None = None, pair_B2: Tensor | None = None) -> Tokens:
        """Those of a batch, position by position.

        Args:
            token_ids: [B, S].
            language: [B]; None: the first token of each sentence.
            pair_B2: [B, 2], or None.
        """
        num_sentences, length = token_ids.shape
        first = token_ids[:, 0] if language is None else language
        number = torch.arange(num_sentences, device=token_ids.device)
        language, sentence = first.repeat_interleave(length), number.repeat_interleave(length)
        return Tokens(token_ids.reshape(-1), language, sentence, num_sentences, pair_B2)

    def select(self, index_T: Tensor | None) -> Tokens:
        """Those at the positions ``index_T``; all of them for None."""
        if index_T is None:
            return self
        ids, language, sentence = (
            values.index_select(0, index_T) for values in (self.ids, self.language, self.sentence)
        )
        return Tokens(ids, language, sentence, self.num_sentences, self.pair_B2)


@dataclass(frozen=True)
class RoutingContext:
    """What a router is told beside the tokens of its stratum.

    Attributes:
        training: whether noise is drawn.
        bias_steps_E: balancing bias of each expert, in steps of ``bias_balancing`` [E], int64; None without.
        forbidden_E: True where an expert must not be chosen this time [E]; None if all may.
        tokens: what is known of the tokens; None if the layer was not told.
        sums: whether somebody wants the gate's sums over tokens; a router may leave them out if not.
    """

    training: bool = False
    bias_steps_E: Tensor | None = None
    forbidden_E: Tensor | None = None
    tokens: Tokens | None = None
    sums: bool = True

    def select(self, index_T: Tensor | None) -> RoutingContext:
        """The context of the tokens ``index_T`` only; of all for None."""
        return self if self.tokens is None else replace(self, tokens=self.tokens.select(index_T))


@dataclass(frozen=True)
class GateSums:
    """Sums over the tokens of a stratum, for losses and log.

    Attributes:
        probs_E: gate probabilities [E], with gradient; of a router without probabilities the number of first choices.
        entropy: gate entropy [nat], 0-dim, without gradient.
        z: squared log-sum-exp of the logits, 0-dim, with gradient.
        losses: further ones, with gradient, by the router's own loss that is taken of them.
        records: what the router wants to hear of after the step, without gradient, see :mod:`smoe_ds.moe.adaptive`;
            None: nothing.
    """

    probs_E: Tensor
    entropy: Tensor
    z: Tensor
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    records: Tensor | None = None


@dataclass(frozen=True)
class Routing:
    """Which experts each token takes, most preferred first.

    A token may take any number of experts up to K; those it takes are its first ones, or come next to the first one.
    The next stratum follows the most preferred expert, whether or not the token takes it.

    Attributes:
        expert_TK: expert of each choice, numbered from 0 at the first one that the gate sees [T, K], int64.
        weights_TK: weights of the choices, with gradient [T, K]; what the mixture makes of them once capacity is known
            is the router's :meth:`smoe_ds.moe.routers.router.Router.weights`.
        sums: of the gate; None where nobody wants them.
        chosen_TK: True where the choice is taken [T, K]; None: all are.
        priority_T: higher goes first where an expert is full [T]; None: in the order of positions.
    """

    expert_TK: Tensor
    weights_TK: Tensor
    sums: GateSums | None = None
    chosen_TK: Tensor | None = None
    priority_T: Tensor | None = None

    def first(self, num_choices: int) -> Routing:
        """The same with the first choices only; no token takes more."""
        if num_choices == self.expert_TK.shape[1]:
            return self
        chosen = None if self.chosen_TK is None else self.chosen_TK[:, :num_choices]
        return replace(
            self,
            expert_TK=self.expert_TK[:, :num_choices],
            weights_TK=self.weights_TK[:, :num_choices],
            chosen_TK=chosen,
        )
