"""Hash layers against the loop over tokens, and the tables."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from smoe_ds.data.corpus import Corpus
from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.routers.hash import balanced_table
from tests.helpers.naive_block import NaiveRouter, Preference
from tests.helpers.router_cases import LENGTH, assert_equals_loop, router_layer, sentences


def naive(layer: StratifiedMoE, by: str) -> NaiveRouter:
    ids = sentences()[1]

    def route(stratum: int, positions: list[int], tokens: list[Tensor]) -> list[Preference]:
        table = layer.mixtures[stratum].router.table.tolist()
        chosen = []
        for n in positions:
            sentence, place = divmod(n, LENGTH)
            expert = table[int(ids[sentence, place if by == "token" else 0])]
            chosen.append((expert, [(expert, torch.ones((), dtype=torch.float64))]))
        return chosen

    return route


@pytest.mark.parametrize("backend", ["loop", "lean"])
@pytest.mark.parametrize("strata", [[4], [2, 3], [1, 2, 2]], ids=str)
@pytest.mark.parametrize("table", ["random", "even", "balanced"])
@pytest.mark.parametrize("by", ["token", "language"])
def test_equals_the_loop(by: str, table: str, strata: list[int], backend: str) -> None:
    router = {"kind": "hash", "by": by, "table": table}
    layer = router_layer(strata, router, capacity_factor=1.0, expert_backend=backend)
    for training in (True, False):
        assert_equals_loop(layer.train(training), naive(layer, by))


def test_a_balanced_table_is_balanced() -> None:
    """Loads differ by no more than what was placed last on the fullest expert."""
    frequency = torch.tensor([9.0, 7, 5, 4, 4, 3, 2, 2, 1, 1, 1])
    table = balanced_table(frequency, 3)
    loads = torch.zeros(3).index_add_(0, table, frequency)
    fullest = int(loads.argmax())
    assert loads.max() - loads.min() <= frequency[table == fullest].min()
    assert table[:3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("experts", [4, 8, 16])
def test_an_even_table_leaves_no_expert_without_tokens(corpus: Corpus, experts: int) -> None:
    """Counted in text; a balanced one keeps an expert for padding, and with more experts gives it nothing else."""
    counts = torch.zeros(corpus.tokenizer.vocab_size)
    for direction in corpus.directions:
        sentences_of = corpus.sentences("train", direction)
        for number in range(0, len(sentences_of), 5):
            ids = torch.tensor([corpus.tokenizer.language_id(direction.split("-")[1]), *sentences_of[number][1], 2])
            counts += torch.bincount(ids, minlength=len(counts))
    least = {}
    for table in ("even", "balanced"):
        layer = StratifiedMoE(4, 4, [experts], router={"kind": "hash", "table": table})
        expert_V = layer.mixtures[0].router.table[: len(counts)]
        loads = torch.zeros(experts).index_add_(0, expert_V, counts)
        least[table] = float(loads.min() / loads.mean())
    assert least["even"] > 0.3, least
    assert experts == 4 or least["balanced"] < 0.2, least


def test_tables_differ_by_layer_and_stratum_whatever_the_seed() -> None:
    def tables(**settings: object) -> list[Tensor]:
        layer = StratifiedMoE(4, 4, [2, 2, 2], router={"kind": "hash", "table": "random"}, **settings)
        return [mixture.router.table for mixture in layer.mixtures]

    first, second, _ = tables(name="a")
    assert not torch.equal(first % 4, second)
    assert all(torch.equal(one, other) for one, other in zip(tables(name="a"), tables(name="a"), strict=True))
    assert not torch.equal(tables(name="a")[0], tables(name="b")[0])
    assert torch.equal(tables(seed=1)[0], tables(seed=2)[0])


def test_without_token_ids_it_is_refused() -> None:
    layer = StratifiedMoE(4, 4, [2], router={"kind": "hash"})
    with pytest.raises(ValueError, match="hash looks at the token_ids of a token; call the layer with"):
        layer(torch.zeros(1, 2, 4))


def test_half_precision_raises_no_false_alarm() -> None:
    """The sum of all numbers of a batch is beyond float16."""
    layer = StratifiedMoE(64, 8, [4], router={"kind": "hash"}, expert_init="xavier").half().eval()
    torch.nn.init.constant_(layer.norms[0].bias, 4.0)
    layer(torch.randn(1, 8192, 64).half(), None, None, torch.randint(4, 40, (1, 8192)))
