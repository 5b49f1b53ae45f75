"""Task-level routing against the loop over tokens; a sentence has one set of experts, and so has a target language."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from smoe_ds.config.checks import check_languages
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.run import RunConfig
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.errors import ConfigError
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.routing import RoutingContext, Tokens
from tests.helpers.forced_decoding import assert_steps_are_forced_decoding
from tests.helpers.naive_block import NaiveRouter, Preference
from tests.helpers.router_cases import LENGTH, D, assert_equals_loop, router_layer, sentences

PAIRS = [(5, 7), (5, 8), (6, 7)]


def naive_probabilities(layer: StratifiedMoE, by: str, stratum: int, positions: list[int], tokens: list[Tensor]) -> Any:
    """The gate's logits of every token, one after the other."""
    ids, gate = sentences()[1], layer.gates[stratum]
    for n in positions:
        sentence = n // LENGTH
        if by == "pair":
            source, target = PAIRS[sentence]
            router = layer.mixtures[stratum].router
            task = router.sources[source] + router.tasks[target]
        elif by == "target":
            task = layer.mixtures[stratum].router.tasks[int(ids[sentence, 0])]
        else:
            members = [h for other, h in zip(positions, tokens, strict=True) if other // LENGTH == sentence]
            task = sum(members[1:], members[0]) / len(members)
        yield torch.stack([gate[e] @ task for e in range(gate.shape[0])])


def naive(layer: StratifiedMoE, by: str) -> NaiveRouter:
    def route(stratum: int, positions: list[int], tokens: list[Tensor]) -> list[Preference]:
        chosen = []
        for logits in naive_probabilities(layer, by, stratum, positions, tokens):
            probs = logits.exp() / logits.exp().sum()
            best = sorted(range(len(probs)), key=lambda e: -float(probs[e].detach()))[: layer.block.top_k]
            total = sum(probs[e] for e in best) if len(best) > 1 else 1.0
            chosen.append((best[0], [(e, probs[e] / total) for e in best]))
        return chosen

    return route


@pytest.mark.parametrize("backend", ["loop", "lean"])
@pytest.mark.parametrize(("strata", "top_k"), [([4], 2), ([2, 3], 2), ([1, 2, 3], 3), ([3, 2], 1)], ids=str)
@pytest.mark.parametrize("by", ["target", "pair", "sentence"])
def test_equals_the_loop(by: str, strata: list[int], top_k: int, backend: str) -> None:
    router = {"kind": "task", "by": by, "tasks": 40}
    layer = router_layer(strata, router, top_k=top_k, capacity_factor=None, expert_backend=backend)
    for training in (True, False):
        assert_equals_loop(layer.train(training), naive(layer, by), pair=torch.tensor(PAIRS))


@pytest.mark.parametrize("by", ["target", "sentence"])
def test_losses_count_tokens(by: str) -> None:
    layer = router_layer([5], {"kind": "task", "by": by})
    x, ids, padding = sentences()
    _, stats = layer(x, padding, None, ids)
    positions = [n for n in range(padding.numel()) if not padding.reshape(-1)[n]]
    h = layer.norms[0](x.reshape(-1, D)[positions])
    probs, z, entropy, first = torch.zeros(5, dtype=torch.float64), 0.0, 0.0, [0] * 5
    for logits in naive_probabilities(layer, by, 0, positions, list(h)):
        p = torch.softmax(logits, 0)
        probs, z = probs + p, z + torch.log(logits.exp().sum()) ** 2
        entropy -= float((p * p.log()).sum().detach())
        first[int(p.argmax())] += 1
    torch.testing.assert_close(stats.strata[0].prob_sum_E, probs)
    torch.testing.assert_close(stats.strata[0].z_sum, z)
    assert float(stats.strata[0].entropy_sum) == pytest.approx(entropy)
    assert stats.strata[0].first_choice_E.tolist() == first


def test_a_target_language_has_one_set_in_whatever_sentence() -> None:
    """Tokens of one sentence share their experts and weights to the bit, and so do directions with one target; in
    batches with fewer tokens than tasks and with more."""
    layer = StratifiedMoE(D, 4, [6, 6], router={"kind": "task"}, seed=5)
    router, gate = layer.mixtures[0].router, layer.gates[0]
    generator = torch.Generator().manual_seed(1)
    sets = {}
    for target in range(4, 30):
        found = set()
        for length in (1, 7, 300):
            ids = torch.full((2, length), 99)
            ids[:, 0] = target
            context = RoutingContext(training=True, tokens=Tokens.of(ids))
            routing = router(torch.randn(2 * length, D, generator=generator), gate, context)
            pairs = zip(routing.expert_TK.tolist(), routing.weights_TK.tolist(), strict=True)
            found.update((tuple(experts), tuple(weights)) for experts, weights in pairs)
        assert len(found) == 1
        sets[target] = found.pop()
    assert len(set(sets.values())) > 10


def test_a_batch_of_one_language_loses_no_row() -> None:
    layer = router_layer([16], {"kind": "task"}).train()
    x, ids, padding = sentences()
    ids[:, 0] = 5
    _, stats = layer(x, padding, None, ids)
    wanted = stats.strata[0].requested_KE.sum(0)
    assert stats.strata[0].num_dropped == 0 and wanted.max() == (~padding).sum()


def test_numbers_that_are_none_are_found_though_the_gate_does_not_read_them() -> None:
    layer = router_layer([4], {"kind": "task"})
    x, ids, padding = sentences()
    x[0, 1, 2] = torch.nan
    with pytest.raises(Exception, match="holds NaN or infinite numbers"):
        layer(x, padding, None, ids)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"capacity_factor": 1.5}, "capacity_factor: the router task does not use it; leave it out or set it to null"),
        ({"jitter": 0.1}, "jitter: the router task does not use it; leave it out$"),
        ({"top_k": 5}, "top_k: 5 is above the 4 experts"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StratifiedMoE(D, 4, [4], router={"kind": "task"}, **settings)


def test_a_language_without_a_row_is_refused() -> None:
    layer = router_layer([4], {"kind": "task", "tasks": 20})
    x, ids, padding = sentences()
    ids[:, 0] = torch.tensor([19, 20, 4])
    with pytest.raises(ValueError, match="has 20 tasks, but a sentence has the language id 20; set tasks above it"):
        layer(x, padding, None, ids)


def test_a_pair_of_languages_has_one_set_in_whatever_sentence() -> None:
    layer = StratifiedMoE(D, 4, [6, 6], router={"kind": "task", "by": "pair"}, seed=5)
    router, gate = layer.mixtures[0].router, layer.gates[0]
    generator = torch.Generator().manual_seed(1)
    sets: dict[tuple[int, int], set[Any]] = {}
    for pair in [(source, target) for source in range(4, 10) for target in range(4, 10)]:
        for length in (1, 7, 300):
            pair_B2 = torch.tensor([(11, 12), pair])
            context = RoutingContext(training=True, tokens=Tokens.of(torch.full((2, length), 99), None, pair_B2))
            routing = router(torch.randn(2 * length, D, generator=generator), gate, context)
            rows = zip(routing.expert_TK[length:].tolist(), routing.weights_TK[length:].tolist(), strict=True)
            sets.setdefault(pair, set()).update((tuple(experts), tuple(weights)) for experts, weights in rows)
    assert {len(found) for found in sets.values()} == {1}
    assert len({found.pop() for found in sets.values()}) == 36, "source and target both count"


def test_a_model_goes_by_pairs_on_both_sides() -> None:
    """Decoding step by step is forced decoding, and another source or target language changes what either side does."""
    model_settings = ModelConfig(
        d_model=8, d_ffn=12, num_heads=2, encoder_layers=2, decoder_layers=2, dropout=0.0, attention_dropout=0.0
    )
    moe = MoeConfig(strata=[4], router={"kind": "task", "by": "pair"}, capacity_factor=None)
    model = Transformer(model_settings, moe, 40, seed=2).double().eval()
    generator = torch.Generator().manual_seed(4)
    src = torch.randint(4, 40, (3, 6), generator=generator)
    tgt = torch.randint(4, 40, (3, 5), generator=generator)
    src[1, 4:] = 0
    assert_steps_are_forced_decoding(model, src, tgt)
    for n in range(3):
        _, stats = model(src[n : n + 1], tgt[n : n + 1])
        for block, side in zip(stats, (model.encoder, model.decoder), strict=True):
            layer = side.layers[1].ffn
            router = layer.mixtures[0].router
            logits = layer.gates[0] @ (router.sources[src[n, 0]] + router.tasks[tgt[n, 0]])
            taken = block.strata[0].requested_KE.sum(0).nonzero().flatten().tolist()
            assert taken == sorted(logits.topk(2).indices.tolist())
    with pytest.raises(ValueError, match="the router task goes by the pair of languages; call the layer with pair"):
        model.encode(src)


def run_of(moe: dict[str, Any], **data: Any) -> RunConfig:
    smoe = {"moe": moe, "data": {"path": "corpus", **data}, "train": {"output_dir": "run", "max_steps": 1}}
    return RunConfig({}, SmoeConfig.model_validate(smoe))


def test_a_vocabulary_with_more_languages_than_rows_is_refused() -> None:
    run = run_of({"router": {"kind": "task", "tasks": 12}})
    check_languages(run, 11)
    with pytest.raises(ConfigError, match=r"moe\.router: encoder.* tasks is 12, .* up to 12; set it above 12"):
        check_languages(run, 12)
    check_languages(run_of({"layers": {"encoder.*": {"router": {"kind": "task", "by": "sentence", "tasks": 1}}}}), 12)


@pytest.mark.parametrize(
    ("moe", "data", "message"),
    [
        ({"router": {"kind": "task", "by": "sentence"}}, {}, "mean of a sentence is not known while it is written"),
        ({"router": {"kind": "task"}}, {"source_language_token": False}, "router of encoder.* goes by that token"),
        ({"router": {"kind": "task"}}, {"target_language_token": False}, "router of decoder.* goes by that token"),
        ({"router": {"kind": "task"}}, {"source_language_token": "source"}, '"source", but the router of encoder'),
        (
            {"router": {"kind": "task"}},
            {"target_language_token": "after_end"},
            '"after_end", but the router of decoder',
        ),
        ({"router": {"kind": "task", "by": "pair"}}, {}, 'true, but the router of encoder.* set it to "source"'),
        (
            {"router": {"kind": "task", "by": "pair"}},
            {"source_language_token": "source", "target_language_token": False},
            "false, but the router of .* set it to true",
        ),
    ],
)
def test_a_run_that_cannot_work_is_refused(moe: dict[str, Any], data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_of(moe, **data)
    by_sentence = {"kind": "task", "by": "sentence"}
    run_of({"layers": {"encoder.*": {"router": by_sentence}}}, source_language_token=False)
    run_of({"router": {"kind": "task", "by": "pair"}}, source_language_token="source")
