"""Sampling against a naive one, its shares against probabilities, and itself in other batches."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import pytest
import torch

from smoe_ds.config.decode import DecodeConfig, SamplingConfig
from smoe_ds.decode.beam_search import beam_search
from smoe_ds.decode.hypothesis import Hypothesis
from smoe_ds.decode.sampling import _uniform, draw, sample
from smoe_ds.errors import CheckpointError
from smoe_ds.model.transformer import Transformer
from tests.decode.test_beam_search import EOS, SPECIAL, START, V, assert_same, naive
from tests.helpers.markov_model import MarkovModel
from tests.helpers.naive_beam_search import drawn
from tests.helpers.random_translation_model import padded, random_model, random_sources

Model = Transformer | MarkovModel
PREFIXES = [(), (7,), (9, 9, 8), (), (6, 7, 8, 9, 10)]


def samples(
    model: Model, sources: list[list[int]], config: DecodeConfig, prefixes: list[tuple[int, ...]] | None = None
) -> list[list[Hypothesis]]:
    return sample(model, padded(sources), torch.full((len(sources),), START), SPECIAL, config, 64, prefixes)


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 3, 1.0), (1.0, 0, 0.6), (1.5, 5, 0.8)]
)
@pytest.mark.parametrize("strata", [None, [2, 2]], ids=str)
def test_as_the_naive_sampling(
    strata: list[int] | None, temperature: float, top_k: int, top_p: float, beam_size: int
) -> None:
    sampling = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p, seed=3)
    config = DecodeConfig(beam_size=beam_size, sampling=sampling, min_length=3, no_repeat_ngram=2)
    model: Model = MarkovModel(1, V, 1.0) if strata is None else random_model(1, strata, V)
    sources = random_sources(1, len(PREFIXES), 6, 6, V)
    start = torch.full((len(sources),), START)
    uniform = _uniform(padded(sources), start, torch.full_like(start, 30), config).tolist()
    found = samples(model, sources, config, PREFIXES)
    for source, prefix, numbers, hypotheses in zip(sources, PREFIXES, uniform, found, strict=True):
        oracle = dataclasses.replace(naive(model, source, config), prefix=prefix, min_length=3, no_repeat=2)
        expected = [oracle.sample(row, temperature, top_k, top_p) for row in numbers]
        assert_same(hypotheses, sorted(expected, key=lambda h: -h.score))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 4, 1.0), (1.3, 0, 0.7), (1.0, 6, 0.5)]
)
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature: float, top_k: int, top_p: float) -> None:
    num = 4000
    logits = 2 * torch.randn(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    uniform = (torch.arange(num, dtype=torch.float64) + 0.5) / num
    settings = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    found = draw(logits.repeat(num, 1), uniform, settings).tolist()
    assert found == [drawn(logits.tolist(), u, temperature, top_k, top_p) for u in uniform.tolist()]
    if (top_k, top_p) == (0, 1.0):
        share = torch.softmax(logits / temperature, dim=0)
        assert all(abs(Counter(found)[v] / num - share[v]) < 2 / num for v in range(12))
    else:
        assert len(set(found)) < 7


def test_a_sample_depends_on_its_sentence_and_the_seed_alone() -> None:
    model, sources = random_model(3, [2, 2], V, noise=0.1), random_sources(3, 10, 9, 6, V)
    sources.append(sources[4])
    config = DecodeConfig(beam_size=3, sampling=SamplingConfig(temperature=1.0))
    together = samples(model, sources, config)
    backwards = samples(model, sources[::-1], config)[::-1]
    for a, b, source in zip(together, backwards, sources, strict=True):
        assert_same(a, b)
        assert_same(a, samples(model, [source], config)[0])
    assert_same(together[4], together[-1])
    assert len({h.tokens for hypotheses in together for h in hypotheses}) > 20
    other = DecodeConfig(beam_size=3, sampling=SamplingConfig(temperature=1.0, seed=2))
    assert sum(a != b for a, b in zip(together, samples(model, sources, other), strict=True)) > 8


def test_more_samples_keep_the_first_ones() -> None:
    model, sources = random_model(3, [2, 2], V, noise=0.1), random_sources(3, 6, 9, 6, V)
    few, many = (
        samples(model, sources, DecodeConfig(beam_size=k, sampling=SamplingConfig(temperature=1.0))) for k in (2, 5)
    )
    for a, b in zip(few, many, strict=True):
        assert {h.tokens for h in a} <= {h.tokens for h in b}
        assert (len(a), len(b)) == (2, 5)


@pytest.mark.parametrize(
    "how",
    [
        {"temperature": 1e-6},
        {"temperature": 1e-308},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_p": 1e-9},
    ],
    ids=str,
)
def test_only_the_likeliest_token_is_greedy(how: dict[str, float]) -> None:
    model, sources = random_model(8, [2, 2], V), random_sources(8, 6, 6, 6, V)
    config = DecodeConfig(beam_size=1, sampling=SamplingConfig(**how))
    greedy = beam_search(
        model, padded(sources), torch.full((len(sources),), START), SPECIAL, DecodeConfig(beam_size=1), 64
    )
    for a, b in zip(samples(model, sources, config), greedy, strict=True):
        assert_same(a, b)


def test_not_a_number_is_an_error() -> None:
    model = random_model(1, [2, 2], V)
    model.embedding.weight.data.fill_(math.nan)
    with pytest.raises(CheckpointError, match="not a number"):
        samples(model, [[6, 7, EOS]], DecodeConfig(beam_size=2, sampling=SamplingConfig(temperature=1.0)))
