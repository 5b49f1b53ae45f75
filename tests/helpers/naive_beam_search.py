"""Beam search written plainly: one sentence, no cache, no batch, every hypothesis in a list."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from smoe_ds.decode.hypothesis import Hypothesis

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class NaiveSearch:
    """The settings of a search.

    Attributes:
        log_probs: the log-probability of every token of the vocabulary after some tokens.
        alpha: length penalty.
        longest: most tokens, with the end of sentence.
        eos: end of sentence.
        forbidden: tokens that never come.
    """

    log_probs: Callable[[Tokens], list[float]]
    alpha: float
    longest: int
    eos: int
    forbidden: frozenset[int]

    def hypothesis(self, tokens: Tokens, log_prob: float) -> Hypothesis:
        """A finished one; ``tokens`` ends with the end of sentence."""
        return Hypothesis(tokens[:-1], log_prob, log_prob / len(tokens) ** self.alpha)

    def continuations(self, tokens: Tokens) -> list[tuple[int, float]]:
        """What may come next: at the longest length the end only, at first anything but the end."""
        log_probs = self.log_probs(tokens)
        if len(tokens) + 1 == self.longest:
            return [(self.eos, log_probs[self.eos])]
        allowed = [v for v in range(len(log_probs)) if v not in self.forbidden and (tokens or v != self.eos)]
        return [(v, log_probs[v]) for v in allowed]

    def beam_search(self, beam_size: int, *, stop_when_best_is_safe: bool = True) -> list[Hypothesis]:
        """Finished hypotheses, best first, by fairseq's rules; optionally with the rule that stops at a safe best."""
        live: list[tuple[Tokens, float]] = [((), 0.0)]
        finished: list[Hypothesis] = []
        while live and len(finished) < beam_size:
            options = [((*tokens, v), total + p) for tokens, total in live for v, p in self.continuations(tokens)]
            options.sort(key=lambda option: -option[1])
            ended = [option for option in options[:beam_size] if option[0][-1] == self.eos]
            finished += [self.hypothesis(*option) for option in ended][: beam_size - len(finished)]
            live = [option for option in options[: 2 * beam_size] if option[0][-1] != self.eos][:beam_size]
            if stop_when_best_is_safe and finished and live:
                reachable = max(total for _, total in live) / self.longest**self.alpha
                if reachable <= max(hypothesis.score for hypothesis in finished):
                    break
        return sorted(finished, key=lambda hypothesis: -hypothesis.score)

    def greedy(self) -> Tokens:
        """The likeliest token, until it is the end."""
        tokens: Tokens = ()
        while True:
            best, _ = max(self.continuations(tokens), key=lambda option: option[1])
            if best == self.eos:
                return tokens
            tokens = (*tokens, best)

    def best_of_all(self) -> Hypothesis:
        """The best of every output there can be, by enumeration."""
        best = Hypothesis((), -math.inf, -math.inf)
        pieces = [v for v in range(len(self.log_probs(()))) if v not in self.forbidden and v != self.eos]
        for length in range(1, self.longest):
            for tokens in itertools.product(pieces, repeat=length):
                log_prob = sum(self.log_probs(tokens[:i])[v] for i, v in enumerate((*tokens, self.eos)))
                best = max(best, self.hypothesis((*tokens, self.eos), log_prob), key=lambda h: h.score)
        return best
