"""Every number of an analysis against a recount over single tokens, which a loop in float64 routed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from smoe_ds.analysis.pieces import KINDS, Pieces, piece_kind
from smoe_ds.analysis.routing_analysis import RoutingAnalysis, analyse_routing
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import TrainedRun
from tests.helpers.naive_moe import Settings
from tests.helpers.naive_routing import Token, Way, read_tokens
from tests.helpers.random_run import random_run

DIRECTIONS = ["cat-eng", "eng-cat", "eng-nso", "nso-eng"]
STRATA, TOP_K, CAPACITY_FACTOR, LIMIT = [2, 3, 3], 2, 0.75, 3
BLOCKS = ["encoder.layers.1.ffn", "encoder.layers.3.ffn", "decoder.layers.1.ffn"]

Case = tuple[RoutingAnalysis, list[Token], Corpus]


@pytest.fixture(scope="module", params=[1, 2], ids=["plain", "two heads"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Case:
    folder = tmp_path_factory.mktemp("routing")
    moe = {"strata": STRATA, "top_k": TOP_K, "capacity_factor": CAPACITY_FACTOR, "heads": request.param}
    run_dir = random_run(folder, corpus, moe=moe, model={"encoder_layers": 4}, data={"max_tokens": 64})
    run = TrainedRun(run_dir, device="cpu")
    translator = run.translator(run.checkpoint())
    translator.model.double()
    found = analyse_routing(translator, corpus, "valid", DIRECTIONS, LIMIT)
    tokens = read_tokens(translator, corpus, "valid", DIRECTIONS, LIMIT, Settings(strata=STRATA))
    assert max(token.batch for token in tokens) > 0  # several batches, so that sums over them matter
    return found, tokens, corpus


def test_bands_end_at_powers_of_ten() -> None:
    for last, names in ((0, 1), (1, 1), (10, 1), (11, 2), (100, 2), (101, 3)):
        rank_V = np.array([0, *range(1, last + 1)])
        pieces = Pieces(("x",) * len(rank_V), rank_V * 0, rank_V, rank_V)
        assert pieces.bands == ("1-10", "11-100", "101-1000")[:names]
        for rank, band in zip(rank_V.tolist(), pieces.band_V.tolist(), strict=True):
            assert band == (-1 if rank == 0 else 0 if rank <= 10 else 1 if rank <= 100 else 2)


def mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def ranks_of(tokens: list[Token], corpus: Corpus) -> dict[int, int]:
    """Frequency ranks of pieces, each token counted once, not in every block."""
    count = Counter(token.id for token in tokens if token.block in (BLOCKS[0], BLOCKS[2]))
    control = {index for index, (_, kind) in enumerate(corpus.tokenizer.vocabulary()) if kind == "control"}
    order = sorted((index for index in count if index not in control), key=lambda index: (-count[index], index))
    return {index: place for place, index in enumerate(order, 1)}


def groups_of(tokens: list[Token], corpus: Corpus) -> dict[str, Callable[[Token], str | None]]:
    """By each grouping: the group of a token."""
    ranks, vocabulary = ranks_of(tokens, corpus), corpus.tokenizer.vocabulary()
    languages = set(corpus.tokenizer.language_ids.values())

    def band(token: Token) -> str | None:
        if token.id not in ranks:
            return None
        last = 10
        while ranks[token.id] > last:
            last *= 10
        return f"{1 if last == 10 else last // 10 + 1}-{last}"

    return {
        "all": lambda _: "all",
        "direction": lambda token: token.direction,
        "language": lambda token: token.language,
        "frequency": band,
        "kind": lambda token: piece_kind(token.id, *vocabulary[token.id], languages),
        "position": lambda token: str(token.position),
    }


def test_requested_capacity_of_every_group(case: Case) -> None:
    found, tokens, corpus = case
    expected: dict[tuple[str, str, str, str], tuple[int, float]] = {}
    for by, group_of in groups_of(tokens, corpus).items():
        for block in BLOCKS:
            rc: dict[str, list[float]] = {}
            for token in tokens:
                if token.block == block and (group := group_of(token)) is not None:
                    rc.setdefault(group, []).append(token.requested_capacity)
            for group, values in rc.items():
                expected[block.split(".")[0], block, by, group] = (len(values), mean(values))
    for side, blocks in (("encoder", BLOCKS[:2]), ("decoder", BLOCKS[2:])):
        for by, group in {key[2:] for key in expected if key[0] == side}:
            of = [expected[side, block, by, group] for block in blocks]
            expected[side, "mean", by, group] = (of[0][0], mean(rc for _, rc in of))
    got = {(one.side, one.block, one.by, one.group): (one.tokens, one.requested_capacity) for one in found.capacities}
    assert len(got) == len(found.capacities)
    assert got.keys() == expected.keys()
    for key, (number, rc_mean) in expected.items():
        assert got[key] == (number, pytest.approx(rc_mean, abs=1e-12)), key
    rc = [value for _, value in expected.values()]
    assert min(rc) < max(rc)
    assert {key[3] for key in expected if key[2] == "kind"} >= {"word start", "inner piece", "language token"}
    assert {key[3] for key in expected if key[2] == "frequency"} == {"1-10", "11-100"}


def test_extreme_pieces(case: Case) -> None:
    found, tokens, corpus = case
    ranks, vocabulary = ranks_of(tokens, corpus), corpus.tokenizer.vocabulary()
    for block in BLOCKS:
        for direction in DIRECTIONS:
            passes: dict[int, list[float]] = {}
            for token in tokens:
                if (token.block, token.direction) == (block, direction) and token.id in ranks:
                    passes.setdefault(token.id, []).append(token.requested_capacity)
            for end, descending in (("highest", True), ("lowest", False)):
                some = [one for one in found.extremes if (one.block, one.direction, one.end) == (block, direction, end)]
                values = sorted((mean(of) for of in passes.values()), reverse=descending)[:25]
                assert [one.requested_capacity for one in some] == pytest.approx(values)
                assert [one.place for one in some] == list(range(1, len(values) + 1))
                for one in some:
                    (index,) = [i for i in passes if ranks[i] == one.rank]
                    assert (one.piece, one.tokens) == (vocabulary[index][0], len(passes[index]))
                    assert one.requested_capacity == pytest.approx(mean(passes[index]))


def test_shares_of_experts(case: Case) -> None:
    found, tokens, _ = case
    assert {(one.block, one.language) for one in found.shares} == {
        (block, language) for block in BLOCKS for language in ("all", "cat", "eng", "nso")
    }
    for one in found.shares:
        chosen = [
            choice
            for token in tokens
            if token.block == one.block and one.language in ("all", token.language)
            for way in token.ways
            for choice in way.choices
        ]
        pairs = Counter(e for choice in chosen for e in choice)
        assert one.all_E.tolist() == [pairs[e] for e in range(8)]
        assert one.first_E.tolist() == [sum(choice[0] == e for choice in chosen) for e in range(8)]
        assert one.share_E.tolist() == pytest.approx([pairs[e] / sum(pairs.values()) for e in range(8)])
        assert one.stratum_E.tolist() == [0, 0, 1, 1, 1, 2, 2, 2]


def test_loads_of_strata(case: Case) -> None:
    found, tokens, _ = case
    settings = Settings(strata=STRATA)
    assert len(found.loads) == len(BLOCKS) * len(STRATA) * (1 + len(DIRECTIONS))
    for one in found.loads:
        of_block = [t for t in tokens if t.block == one.block and one.direction in ("all", t.direction)]
        passes = [
            (t, choice, entropy, stratum)
            for t in of_block
            for way in t.ways
            for choice, entropy, stratum in zip(way.choices, way.entropies, strata_passed(way, settings), strict=True)
            if stratum == one.stratum
        ]
        visible = range(sum(STRATA[: one.stratum]), sum(STRATA))
        rows = Counter(e for _, choice, _, _ in passes for e in choice)
        assert (one.tokens, one.side) == (len(passes), one.block.split(".")[0])
        assert one.share_of_tokens == pytest.approx(len(passes) / sum(len(t.ways) for t in of_block))
        assert one.dead == sum(rows[e] == 0 for e in visible)
        if not passes:
            means = (one.choices, one.load, one.dropped, one.entropy, one.same_stratum)
            assert means == (None,) * len(means)
            continue
        assert one.choices == TOP_K
        assert one.load == pytest.approx(max(rows[e] for e in visible) / mean(rows[e] for e in visible))
        assert one.entropy == pytest.approx(mean(entropy for _, _, entropy, _ in passes))
        same = [settings.stratum_of(choice[0]) == settings.stratum_of(choice[1]) for _, choice, _, _ in passes]
        assert one.same_stratum == pytest.approx(mean(same))
        dropped = 0
        for batch in {(t.direction, t.batch) for t, _, _, _ in passes}:
            here = [choice for t, choice, _, _ in passes if (t.direction, t.batch) == batch]
            room = math.ceil(CAPACITY_FACTOR * len(here) / len(visible))
            dropped += sum(max(sum(e in choice for choice in here) - room, 0) for e in visible)
        assert one.dropped == pytest.approx(dropped / sum(rows.values()))
    for values in ([one.dropped for one in found.loads], [one.same_stratum for one in found.loads]):
        assert len(set(values)) > 3
    assert any(one.dead for one in found.loads)


def strata_passed(way: Way, settings: Settings) -> list[int]:
    """The stratum of each pass: the first, then the one after each first choice's."""
    return [0, *(settings.stratum_of(choice[0]) + 1 for choice in way.choices)][: len(way.choices)]


def test_divergences_of_languages(case: Case) -> None:
    found, tokens, _ = case
    assert [one.side for one in found.divergences] == ["encoder", "decoder"]
    for of, blocks in zip(found.divergences, (BLOCKS[:2], BLOCKS[2:]), strict=True):
        assert set(of.by_block) == {*blocks, "mean"}
        sums: dict[tuple[int, int], float] = {}
        for block in blocks:
            share = {language: naive_share(tokens, block, language) for language in of.languages}
            for i, one in enumerate(of.languages):
                for j, other in enumerate(of.languages):
                    expected = naive_divergence(share[one], share[other])
                    assert of.by_block[block][i, j] == pytest.approx(expected, abs=1e-12)
                    sums[i, j] = sums.get((i, j), 0) + expected
        for (i, j), total in sums.items():
            assert of.by_block["mean"][i, j] == pytest.approx(total / len(blocks), abs=1e-12)
        assert of.by_block["mean"].max() > 0.001
        assert sorted(of.tree.leaves) == sorted(of.languages)


def naive_share(tokens: list[Token], block: str, language: str) -> list[float]:
    pairs = Counter(
        e
        for t in tokens
        if t.block == block and t.language == language
        for way in t.ways
        for choice in way.choices
        for e in choice
    )
    return [pairs[e] / sum(pairs.values()) for e in range(8)]


def naive_divergence(p: list[float], q: list[float]) -> float:
    """Entropy of the mixture minus the mean entropy."""

    def entropy(of: list[float]) -> float:
        return -sum(x * math.log2(x) for x in of if x)

    return entropy([(a + b) / 2 for a, b in zip(p, q, strict=True)]) - (entropy(p) + entropy(q)) / 2


def test_what_was_read(case: Case) -> None:
    found, tokens, corpus = case
    assert sorted(one.direction for one in found.texts) == DIRECTIONS
    sizes = [one.train_sentences for one in found.texts]
    assert sizes == sorted(sizes, reverse=True)
    for one in found.texts:
        assert (one.sentences, one.too_long) == (LIMIT, 0)
        assert one.train_sentences == len(corpus.sentences("train", one.direction))
        for block, number in ((BLOCKS[0], one.src_tokens), (BLOCKS[2], one.tgt_tokens)):
            assert number == sum((t.block, t.direction) == (block, one.direction) for t in tokens)
    assert found.corpus == corpus.fingerprint


@pytest.mark.parametrize(
    ("spelling", "kind", "expected"),
    [
        ("▁house", "normal", "word start"),
        ("▁", "normal", "word start"),
        ("use", "normal", "inner piece"),
        ("▁2024", "normal", "digits"),
        ("٣", "normal", "digits"),
        ("▁(", "normal", "punctuation"),
        ("…", "normal", "punctuation"),
        ("€", "normal", "punctuation"),
        ("▁it's", "normal", "word start"),
        ("<0xE4>", "byte", "byte"),
        ("<unk>", "unknown", "unknown"),
        ("<2nso>", "control", "language token"),
        ("</s>", "control", "sentence end"),
        ("<s>", "control", "sentence begin"),
        ("<reserved_0>", "control", "other control"),
    ],
)
def test_kinds(spelling: str, kind: str, expected: str) -> None:
    index = {"<s>": 1, "</s>": 2, "<2nso>": 7}.get(spelling, 50)
    assert piece_kind(index, spelling, kind, {7}) == expected
    assert expected in KINDS


def test_sentences_keep_their_tokens(case: Case) -> None:
    """What chance is tested on: the mean over the blocks of a side, token by token, in the order of the text."""
    found, tokens, _ = case
    for side, blocks in (("encoder", BLOCKS[:2]), ("decoder", BLOCKS[2:])):
        one = next(test for test in found.tests if (test.side, test.by) == (side, "language"))
        by_language: dict[str, list[float]] = {}
        for token in tokens:
            if token.block in blocks:
                by_language.setdefault(token.language, []).append(token.requested_capacity)
        means = [mean(values) for values in by_language.values()]
        assert one.effect == pytest.approx(max(means) - min(means), abs=1e-6)
        assert one.sentences == LIMIT * len(DIRECTIONS)
        assert 0 < one.p <= 1
