"""Decoding by the difference of two ways of routing: the weak way and whole searches against naive ones."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from smoe_ds.config.decode import ContrastConfig, DecodeConfig
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.beam_search import beam_search
from smoe_ds.decode.contrast import ContrastModel, contrasted, weak_routing
from smoe_ds.decode.hypothesis import longest_output
from smoe_ds.decode.load import load_translator
from smoe_ds.errors import ConfigError
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.routers.top_k import TopKRouter
from tests.decode.test_beam_search import EOS, FORBIDDEN, SHORT, SPECIAL, START, Tokens, V, assert_same, search
from tests.helpers.naive_beam_search import NaiveSearch
from tests.helpers.naive_block import NaiveRouter, Preference
from tests.helpers.random_run import random_run
from tests.helpers.random_translation_model import padded, random_model, random_sources
from tests.helpers.router_cases import assert_equals_loop, router_layer


def naive_weak(layer: StratifiedMoE, place: int) -> NaiveRouter:
    """Each token's expert at a place of its order, with weight 1."""

    def route(stratum: int, positions: list[int], tokens: list[Tensor]) -> list[Preference]:
        gate = layer.gates[stratum]
        chosen = []
        for h in tokens:
            order = sorted(range(gate.shape[0]), key=lambda e: -float(gate[e].detach() @ h.detach()))
            expert = order[min(place, len(order)) - 1]
            chosen.append((expert, [(expert, torch.ones((), dtype=h.dtype))]))
        return chosen

    return route


@pytest.mark.parametrize("place", [1, 2, 5])
@pytest.mark.parametrize("strata", [[4], [2, 3], [1, 2, 1]], ids=str)
def test_the_weak_way_is_that_of_a_loop_over_tokens(strata: list[int], place: int) -> None:
    top_k = 1 if strata[-1] == 1 else 2
    layer = router_layer(strata, {"kind": "top_k"}, top_k=top_k, capacity_factor=None).eval()
    routers = [router for router in layer.modules() if isinstance(router, TopKRouter)]
    with weak_routing(routers, place):
        assert_equals_loop(layer, naive_weak(layer, place))
    assert all(router.only_place is None for router in routers)


def test_logits_of_a_loop_over_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    strong, weak = torch.randn(2, 5, 9, generator=generator, dtype=torch.float64).mul(3).unbind()
    config = ContrastConfig(strength=0.7, plausibility=0.2)
    found = contrasted(strong, weak, config)
    probabilities = strong.softmax(dim=1)
    plausible = 0
    for r in range(5):
        for v in range(9):
            if probabilities[r, v] >= 0.2 * probabilities[r].max():
                assert found[r, v] == pytest.approx(1.7 * float(strong[r, v]) - 0.7 * float(weak[r, v]))
                plausible += 1
            else:
                assert float(found[r, v]) < -9000
    assert 5 < plausible < 30
    assert torch.equal(contrasted(strong, weak, ContrastConfig(plausibility=1.0)).argmax(1), strong.argmax(1))


def naive_log_probs(model: Transformer, source: list[int], config: ContrastConfig) -> NaiveSearch:
    """Both ways from the beginning for every prefix, a sentence at a time, the encoder by the usual one."""
    routers = [router for router in model.decoder.modules() if isinstance(router, TopKRouter)]

    def logits(tokens: Tokens) -> list[float]:
        cache = model.start_decoding(model.encode(torch.tensor([source])))
        for token in (START, *tokens):
            found = model.decode_step(torch.tensor([token]), cache)
        return [float(value) for value in found[0]]

    @functools.cache
    @torch.no_grad()
    def log_probs(tokens: Tokens) -> list[float]:
        strong = logits(tokens)
        with weak_routing(routers, config.weak_place):
            weak = logits(tokens)
        least = max(strong) + math.log(config.plausibility)
        values = [s + config.strength * (s - w) if s >= least else s - 1e4 for s, w in zip(strong, weak, strict=True)]
        total = max(values) + math.log(sum(math.exp(value - max(values)) for value in values))
        return [value - total for value in values]

    decode = DecodeConfig()
    return NaiveSearch(log_probs, 1.0, longest_output(len(source), decode, SHORT), EOS, frozenset(FORBIDDEN))


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("strata", [[4], [2, 2]], ids=str)
def test_searches_are_those_of_both_ways_from_the_beginning(strata: list[int], beam_size: int) -> None:
    model, sources = random_model(beam_size, strata, V), random_sources(beam_size, 4, 6, 6, V)
    config = ContrastConfig(strength=0.5, plausibility=0.05)
    start = torch.full((len(sources),), START)
    given = ContrastModel(model, config), padded(sources), start, SPECIAL, DecodeConfig(beam_size=beam_size)
    found = beam_search(*given, SHORT)
    for source, hypotheses in zip(sources, found, strict=True):
        assert_same(hypotheses, naive_log_probs(model, source, config).beam_search(beam_size))
    usual = search(model, sources, DecodeConfig(beam_size=beam_size), SHORT)
    assert [one[0].tokens for one in found] != [one[0].tokens for one in usual]


def test_a_decoder_without_such_a_gate_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the decoder has no block with a top_k router, .*strength to 0"):
        ContrastModel(random_model(1, [], V), ContrastConfig(strength=0.5))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_translator_that_is_told_to(tmp_path: Path, corpus: Corpus, temperature: float) -> None:
    run = random_run(tmp_path, corpus, moe={"strata": [2, 2]})
    lines = ["The birds sing.", "It rains in the mountains."]
    sampling = [f"smoe.decode.sampling.temperature={temperature}"]

    def translations(*settings: str) -> list[str]:
        translator = load_translator(run, overrides=[*sampling, *settings], device="cpu")
        return [answer.text for answer in translator.translate(lines, "nso")]

    usual, off = translations(), translations("smoe.decode.contrast.weak_place=1")
    assert usual == off
    assert translations("smoe.decode.contrast.strength=0.9") != usual
