"""Beam search against a naive one, enumeration, greedy decoding and itself in other batches."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch

from smoe_ds.config.decode import DecodeConfig
from smoe_ds.decode.beam_search import beam_search
from smoe_ds.decode.constraints import SpecialTokens
from smoe_ds.decode.hypothesis import Hypothesis, longest_output
from smoe_ds.decode.scorer import score_targets
from smoe_ds.errors import CheckpointError
from smoe_ds.model.transformer import DecoderCache, Transformer
from smoe_ds.moe.layer import StratifiedMoE
from tests.helpers.markov_model import MarkovModel
from tests.helpers.naive_beam_search import NaiveSearch, Tokens
from tests.helpers.random_translation_model import padded, random_model, random_sources

EOS = 2
START = 4
FORBIDDEN = (0, 1, 3, START, 5)
SPECIAL = SpecialTokens(EOS, FORBIDDEN)
V = 16
SHORT = 9  # longest output where the naive search takes a forward pass per hypothesis and step


def search(
    model: Transformer | MarkovModel, sources: list[list[int]], config: DecodeConfig, longest: int = 64
) -> list[list[Hypothesis]]:
    start = torch.full((len(sources),), START)
    return beam_search(model, padded(sources), start, SPECIAL, config, longest)


def naive(model: Transformer | MarkovModel, source: list[int], config: DecodeConfig, longest: int = 64) -> NaiveSearch:
    @functools.cache
    def log_probs(tokens: Tokens) -> list[float]:
        if isinstance(model, MarkovModel):
            return model.log_probs(source, (START, *tokens))
        with torch.no_grad():
            logits, _ = model(torch.tensor([source]), torch.tensor([[START, *tokens]]))
        values: list[float] = torch.log_softmax(logits[0, -1].double(), dim=0).tolist()
        return values

    longest = longest_output(len(source), config, longest)
    return NaiveSearch(log_probs, config.length_penalty, longest, EOS, frozenset(FORBIDDEN))


def change_logits(model: Transformer, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Puts a function behind the model's output projection."""
    project = model.embedding.project
    model.embedding.project = lambda x: change(project(x))  # type: ignore[method-assign]


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    for a, b in zip(found, expected, strict=True):
        assert math.isclose(a.score, b.score, rel_tol=1e-9)
        assert math.isclose(a.log_prob, b.log_prob, rel_tol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("beam_size", [1, 2, 5])
@pytest.mark.parametrize("strata", [[], [4], [2, 2], [2, 1, 3]], ids=str)
def test_a_model_searched_as_by_the_naive_search(strata: list[int], beam_size: int, alpha: float) -> None:
    model = random_model(beam_size, strata, V)
    sources = random_sources(beam_size, 4, 6, 6, V)
    config = DecodeConfig(beam_size=beam_size, length_penalty=alpha)
    for source, found in zip(sources, search(model, sources, config, SHORT), strict=True):
        assert_same(found, naive(model, source, config, SHORT).beam_search(beam_size))


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("beam_size", [1, 2, 5, 40])
@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0, 8.0])
def test_many_chains_searched_as_by_the_naive_search(sharpness: float, beam_size: int, alpha: float) -> None:
    config = DecodeConfig(beam_size=beam_size, length_penalty=alpha)
    for seed in range(2):
        model, sources = MarkovModel(seed, V, sharpness), random_sources(seed, 10, 6, 6, V)
        for source, found in zip(sources, search(model, sources, config), strict=True):
            assert_same(found, naive(model, source, config).beam_search(beam_size))


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_stopping_at_a_safe_best_never_changes_the_best(alpha: float) -> None:
    config = DecodeConfig(beam_size=4, length_penalty=alpha)
    stopped_earlier = 0
    for seed in range(20):
        model, sources = MarkovModel(seed, V, 5.0), random_sources(seed, 10, 6, 6, V)
        for source, found in zip(sources, search(model, sources, config), strict=True):
            expected = naive(model, source, config).beam_search(4, stop_when_best_is_safe=False)
            assert_same(found[:1], expected[:1])
            stopped_earlier += len(found) < len(expected)
    assert stopped_earlier, "the rule never applied: the test shows nothing"


@pytest.mark.parametrize("strata", [[], [2, 2]], ids=str)
def test_beam_of_one_is_greedy(strata: list[int]) -> None:
    model, sources = random_model(8, strata, V), random_sources(8, 6, 6, 6, V)
    config = DecodeConfig(beam_size=1)
    for source, [found] in zip(sources, search(model, sources, config), strict=True):
        assert found.tokens == naive(model, source, config).greedy()


@pytest.mark.parametrize(("seed", "alpha"), [(0, 0.0), (1, 1.0), (2, 1.0)])
def test_a_beam_of_everything_finds_the_best_of_all(seed: int, alpha: float) -> None:
    vocab_size, longest = 9, 5  # pieces 6, 7, 8: 3 + 9 + 27 + 81 outputs of at most five tokens with the end
    model, source = random_model(seed, [2, 2], vocab_size), [6, 8, EOS]
    config = DecodeConfig(beam_size=400, length_penalty=alpha)
    found = search(model, [source], config, longest)[0]
    assert_same(found[:1], [naive(model, source, config, longest).best_of_all()])


def test_does_not_depend_on_the_rest_of_the_batch() -> None:
    model, sources = random_model(3, [2, 2], V), random_sources(3, 12, 9, 6, V)
    config = DecodeConfig(beam_size=3)
    together = search(model, sources, config)
    backwards = search(model, sources[::-1], config)[::-1]
    alone = [search(model, [source], config)[0] for source in sources]
    for a, b, c in zip(together, backwards, alone, strict=True):
        assert_same(a, c)
        assert_same(b, c)
    assert len({len(h[0].tokens) for h in together}) > 2, "sentences of one length leave the batch together"


@pytest.mark.parametrize("strata", [[4], [2, 2, 2]])
def test_it_finds_the_same_whether_or_not_blocks_take_statistics(
    strata: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sources = random_model(4, strata, V), random_sources(4, 8, 9, 6, V)
    with monkeypatch.context() as patch:
        patch.setattr(StratifiedMoE, "_through_strata", None)  # nobody needs it
        found = search(model, sources, DecodeConfig(beam_size=4))
    monkeypatch.setattr(StratifiedMoE, "_can_infer", lambda *_: False)
    expected = search(model, sources, DecodeConfig(beam_size=4))
    for mine, other in zip(found, expected, strict=True):
        assert [h.tokens for h in mine] == [h.tokens for h in other]
        assert [h.score for h in mine] == pytest.approx([h.score for h in other], rel=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_forced_decoding_gives_the_same_score(alpha: float) -> None:
    model, sources = random_model(5, [2, 2], V), random_sources(5, 8, 9, 6, V)
    found = search(model, sources, DecodeConfig(beam_size=5, length_penalty=alpha))
    rows = [(source, h) for source, hypotheses in zip(sources, found, strict=True) for h in hypotheses]
    scores = score_targets(
        model,
        padded([source for source, _ in rows]),
        padded([[START, *h.tokens] for _, h in rows]),
        padded([[*h.tokens, EOS] for _, h in rows]),
        alpha,
    )
    expected = torch.tensor([h.score for _, h in rows], dtype=torch.float64)
    torch.testing.assert_close(scores, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("beam_size", [1, 5, 12])  # 12: more hypotheses than the 10 pieces there are
def test_forbidden_tokens_never_come_even_when_likeliest(beam_size: int) -> None:
    model, sources = random_model(2, [2, 2], V), random_sources(2, 4, 6, 6, V)
    favoured = torch.zeros(V, dtype=torch.float64)
    favoured[list(FORBIDDEN)] = 50.0
    change_logits(model, lambda logits: logits + favoured)
    for hypotheses in search(model, sources, DecodeConfig(beam_size=beam_size)):
        for hypothesis in hypotheses:
            assert hypothesis.tokens and not set(hypothesis.tokens) & {EOS, *FORBIDDEN}
            assert hypothesis.log_prob < -40, "the probability is the model's own, forbidden tokens included"


def test_longest_output_is_held() -> None:
    model = random_model(1, [], V)
    change_logits(model, lambda logits: logits - 1e4 * (torch.arange(V) == EOS))
    sources = [[6, EOS], [6, 7, 8, 9, 10, 11, 12, 13, 14, EOS]]
    config = DecodeConfig(beam_size=3, max_length_factor=1.5)
    found = search(model, sources, config)
    assert [{len(h.tokens) + 1 for h in hypotheses} for hypotheses in found] == [{3 + 10}, {15 + 10}]
    assert {len(h.tokens) + 1 for h in search(model, sources, config, 12)[1]} == {12}


def test_done_sentences_leave_the_batch() -> None:
    model, sources = random_model(3, [2, 2], V), random_sources(3, 12, 9, 6, V)
    rows = []
    step = model.decode_step

    def counted(tokens: torch.Tensor, cache: DecoderCache) -> torch.Tensor:
        rows.append(tokens.numel())
        sources = cache.memory_mask.shape[0]
        assert cache.layers[0].memory.key.shape[0] == sources, "a source is kept once for its hypotheses"
        assert tokens.numel() == sources * (3 if len(rows) > 1 else 1)
        return step(tokens, cache)

    model.decode_step = counted  # type: ignore[method-assign]
    search(model, sources, DecodeConfig(beam_size=3))
    assert rows[:2] == [12, 36], "one hypothesis per sentence in the first step, then the beam"
    assert rows[1:] == sorted(rows[1:], reverse=True)
    assert rows[-1] < 36


def test_scores_of_a_half_precision_model_are_wider_sums() -> None:
    model, sources = random_model(4, [2, 2], V, noise=0.1, dtype=torch.bfloat16), random_sources(4, 4, 6, 6, V)
    config = DecodeConfig(beam_size=1, length_penalty=0.0)
    for source, [found] in zip(sources, search(model, sources, config), strict=True):
        log_prob, tokens = 0.0, [*found.tokens, EOS]
        for i, v in enumerate(tokens):
            logits, _ = model(torch.tensor([source]), torch.tensor([[START, *tokens[:i]]]))
            log_prob += torch.log_softmax(logits[0, -1].float(), dim=0)[v].item()
        assert math.isclose(found.log_prob, log_prob, rel_tol=2e-2)
        assert found.log_prob != torch.tensor(found.log_prob).bfloat16().item(), "rounded to bfloat16"


@pytest.mark.parametrize("where", ["embedding.weight", "decoder.layers.1.ffn.norms.0.weight"])
def test_not_a_number_is_an_error(where: str) -> None:
    model = random_model(1, [2, 2], V)
    dict(model.named_parameters())[where].data.fill_(math.nan)
    with pytest.raises(CheckpointError, match="not a number"):
        search(model, [[6, 7, EOS]], DecodeConfig(beam_size=2))
