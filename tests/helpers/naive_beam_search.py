"""Beam search and sampling written plainly: one sentence, no cache, no batch, every hypothesis in a list."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
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
        min_length: fewest tokens before the end.
        no_repeat: length of the n-grams that come once only; 0: they may come again.
        prefix: what every output begins with.
        n_best: how many best hypotheses must be safe before the search stops.
    """

    log_probs: Callable[[Tokens], list[float]]
    alpha: float
    longest: int
    eos: int
    forbidden: frozenset[int]
    min_length: int = 1
    no_repeat: int = 0
    prefix: Tokens = ()
    n_best: int = 1

    def hypothesis(self, tokens: Tokens, log_prob: float) -> Hypothesis:
        """A finished one; ``tokens`` ends with the end of sentence."""
        return Hypothesis(tokens[:-1], log_prob, log_prob / len(tokens) ** self.alpha)

    def continuations(self, tokens: Tokens) -> list[tuple[int, float]]:
        """What may come next: at the longest length the end only, in the prefix its token."""
        log_probs = self.log_probs(tokens)
        if len(tokens) + 1 == self.longest:
            return [(self.eos, log_probs[self.eos])]
        if len(tokens) < len(self.prefix):
            return [(self.prefix[len(tokens)], log_probs[self.prefix[len(tokens)]])]
        allowed = [v for v in range(len(log_probs)) if self.may_come(tokens, v)] or [self.eos]
        return [(v, log_probs[v]) for v in allowed]

    def may_come(self, tokens: Tokens, v: int) -> bool:
        """Whether ``v`` may follow where neither end nor prefix says what must."""
        if v == self.eos:
            return len(tokens) >= self.min_length
        n, longer = self.no_repeat, (*tokens, v)
        grams = [longer[i : i + n] for i in range(len(longer) - n + 1)] if n else []
        return v not in self.forbidden and (not grams or grams[-1] not in grams[:-1])

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
            if stop_when_best_is_safe and len(finished) >= self.n_best and live:
                reachable = max(total for _, total in live) / self.longest**self.alpha
                if reachable <= sorted(hypothesis.score for hypothesis in finished)[-self.n_best]:
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

    def sample(self, uniform: Sequence[float], temperature: float, top_k: int, top_p: float) -> Hypothesis:
        """One output, its tokens drawn by one uniform number each."""
        tokens: Tokens = ()
        total = 0.0
        for u in uniform:
            options = self.continuations(tokens)
            token, log_prob = options[drawn([p for _, p in options], u, temperature, top_k, top_p)]
            tokens, total = (*tokens, token), total + log_prob
            if token == self.eos:
                return self.hypothesis(tokens, total)
        raise AssertionError("the end never came")

    def best_of_all(self) -> Hypothesis:
        """The best of every output there can be, by enumeration."""
        best = Hypothesis((), -math.inf, -math.inf)
        pieces = [v for v in range(len(self.log_probs(()))) if v not in self.forbidden and v != self.eos]
        for length in range(1, self.longest):
            for tokens in itertools.product(pieces, repeat=length):
                log_prob = sum(self.log_probs(tokens[:i])[v] for i, v in enumerate((*tokens, self.eos)))
                best = max(best, self.hypothesis((*tokens, self.eos), log_prob), key=lambda h: h.score)
        return best


def drawn(log_probs: Sequence[float], u: float, temperature: float, top_k: int, top_p: float) -> int:
    """Which option ``u``, between 0 and 1, falls on when they lie side by side, the likeliest first."""
    weights = [math.exp((p - max(log_probs)) / temperature) for p in log_probs]
    order = sorted(range(len(weights)), key=lambda i: -weights[i])[: top_k or None]
    total = sum(weights[i] for i in order)
    kept, likelier = [], 0.0
    for i in order:
        if likelier < top_p:
            kept.append((i, weights[i] / total))
        likelier += weights[i] / total
    left = u * sum(share for _, share in kept)
    for i, share in kept:
        left -= share
        if left < 0:
            return i
    return kept[-1][0]
