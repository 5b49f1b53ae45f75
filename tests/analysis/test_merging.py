"""CKA by its definition and its invariances; samples; grouping against its definition; experts compared as they are."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from smoe_ds.analysis.merging import choose_groups, group_experts
from smoe_ds.analysis.similarity import Sample, expert_similarity, linear_cka, sampled_tokens
from smoe_ds.config.block import BlockSettings
from smoe_ds.config.moe import MoeConfig
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import TrainedRun
from smoe_ds.errors import ConfigError
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.placement import Placement
from tests.helpers.random_run import random_run
from tests.helpers.random_translation_model import MODEL, padded, random_sources


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_cka_is_that_of_the_kernels() -> None:
    """HSIC of the linear kernels, element by element."""
    x, y = normal(1, 9, 4), normal(2, 9, 4) + normal(1, 9, 4)

    def kernel(features: Tensor) -> list[list[float]]:
        centred = features - features.mean(0)
        return [[float(a @ b) for b in centred] for a in centred]

    def product(one: list[list[float]], other: list[list[float]]) -> float:
        return sum(one[i][j] * other[i][j] for i in range(9) for j in range(9))

    k, l = kernel(x), kernel(y)  # noqa: E741
    expected = product(k, l) / (product(k, k) * product(l, l)) ** 0.5
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-12)
    assert 0 < expected < 0.9


def test_cka_does_not_see_rotation_scale_and_shift() -> None:
    x, y = normal(1, 40, 6), normal(2, 40, 6)
    rotation = torch.linalg.qr(normal(3, 6, 6)).Q
    assert linear_cka(x, x) == pytest.approx(1, abs=1e-12)
    assert linear_cka(x, -3 * x @ rotation + 5) == pytest.approx(1, abs=1e-12)
    assert linear_cka(x, 7 * y @ rotation - 1) == pytest.approx(linear_cka(x, y), rel=1e-12)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x), rel=1e-12)
    assert linear_cka(x, torch.ones(40, 6)) == 0


def test_a_sample_draws_all_tokens_alike_whatever_the_pieces() -> None:
    one, other = Sample(50, 1), Sample(50, 1)
    tokens = torch.arange(400.0).unsqueeze(1)
    one.add(tokens)
    for piece in tokens.split([1, 0, 149, 250]):
        other.add(piece)
    assert one.tokens_ND is not None and other.tokens_ND is not None
    drawn = one.tokens_ND.flatten().sort().values
    assert torch.equal(drawn, other.tokens_ND.flatten().sort().values)
    assert len(drawn.unique()) == 50
    assert 140 < drawn.mean() < 260


@pytest.mark.parametrize(("strata", "top_k"), [((6,), 2), ((2, 4), 2), ((3, 2, 3), 1)])
def test_the_most_alike_groups_of_a_stratum_become_one(strata: tuple[int, ...], top_k: int) -> None:
    placement = Placement(strata, 1, False)
    total, fewest = sum(strata), [1] * (len(strata) - 1) + [top_k]
    for seed in range(5):
        half = normal(seed, total, total)
        similarity = half + half.t()
        before = group_experts(similarity, placement, fewest, total)
        assert before == [(e,) for e in range(total)]
        for number in range(total - 1, sum(fewest) - 1, -1):
            groups = group_experts(similarity, placement, fewest, number)
            assert len(groups) == number and sorted(e for own in groups for e in own) == list(range(total))
            (new,) = [own for own in groups if own not in before]
            parts = [own for own in before if own not in groups]
            assert sorted(parts[0] + parts[1]) == list(new) and len(parts) == 2

            def alike(pair: tuple[tuple[int, ...], ...], similarity: Tensor = similarity) -> float:
                values = [float(similarity[a, b]) for a in pair[0] for b in pair[1]]
                return sum(values) / len(values)

            def stratum(own: tuple[int, ...]) -> int:
                return placement.stratum_of(own[0])

            allowed = [
                pair
                for pair in itertools.combinations(before, 2)
                if stratum(pair[0]) == stratum(pair[1])
                and sum(stratum(own) == stratum(pair[0]) for own in before) > fewest[stratum(pair[0])]
            ]
            assert alike(tuple(parts)) == pytest.approx(max(map(alike, allowed)))
            before = groups


def test_experts_are_compared_on_the_tokens_of_all_gates_that_see_them() -> None:
    model = Transformer(MODEL, MoeConfig(strata=[2, 3], expert_init="xavier"), 29, seed=2).double().eval()
    name = "encoder.layers.1.ffn"
    block = model.get_submodule(name)
    assert isinstance(block, StratifiedMoE)
    seen: list[list[Tensor]] = [[], []]
    for i, mixture in enumerate(block.mixtures):

        def remember(_: nn.Module, inputs: tuple[Tensor, ...], i: int = i) -> None:
            seen[i].append(inputs[0])

        mixture.register_forward_pre_hook(remember)
    src, tgt = (padded(random_sources(seed, 8, 9, 4, 29)) for seed in (1, 2))
    with torch.no_grad(), sampled_tokens(model) as samples:
        model(src, tgt)
        model(tgt, src)
        found = expert_similarity(block, samples[name])
        tokens = [torch.cat(of) for of in seen]
        every = [torch.cat(tokens[:1]), torch.cat(tokens)]
        for a, b in itertools.product(range(5), repeat=2):
            stratum = int(a > 1)
            if stratum != int(b > 1):
                assert found[a, b] == 0
            else:
                one, other = (block.experts[str(e)](every[stratum]) for e in (a, b))
                assert float(found[a, b]) == pytest.approx(linear_cka(one, other), rel=1e-5)
        count = len(tokens[0])
        model(src, tgt)
    assert samples[name][0].tokens_ND is not None and len(tokens[1]) > 3
    model(src, tgt)
    assert len(samples[name][0].keys_N) > count
    before = len(samples[name][0].keys_N)
    model(src, tgt)
    assert len(samples[name][0].keys_N) == before


def test_copies_are_found_and_the_most_used_one_stays(tmp_path: Path, corpus: Corpus) -> None:
    run = TrainedRun(random_run(tmp_path, corpus, moe={"strata": [2, 4]}), device="cpu")
    translator = run.translator(run.checkpoint())
    blocks = run.config.smoe.moe.blocks(run.config.smoe.model)
    for name in blocks:
        experts = translator.model.get_submodule(name).experts
        assert isinstance(experts, nn.ModuleDict)
        experts["5"].load_state_dict(experts["3"].state_dict())
    merging = choose_groups(translator, corpus, "valid", ["eng-nso", "nso-eng"], blocks, 5)
    for name in blocks:
        share = sum(of[name].share_E for of in merging.use.values()) / 2
        first, second = (3, 5) if share[3] >= share[5] else (5, 3)
        (group,) = merging.groups[name]
        assert group.experts == (first, second) and merging.removed[name] == [second]
        assert group.shares[0] == pytest.approx(float(share[first] / (share[3] + share[5])))
        assert merging.similarity[name][3, 5] == pytest.approx(1)


@pytest.mark.parametrize("number", [2, 7])
def test_a_number_that_cannot_be_is_refused(run_dir: Path, corpus: Corpus, number: int) -> None:
    run = TrainedRun(run_dir, device="cpu")
    blocks = {"block": BlockSettings(strata=[2, 4])}
    with pytest.raises(ConfigError, match=rf"^--merge-experts {number}: expected 3 to 6: each stratum of \[2, 4\]"):
        choose_groups(run.translator(run.checkpoint()), corpus, "valid", ["eng-nso"], blocks, number)
    cosine = {"block": BlockSettings(strata=[2, 4], gate_scores="cosine")}
    with pytest.raises(ConfigError, match=r"^block: experts of a gate with cosine scores cannot be removed; export"):
        choose_groups(run.translator(run.checkpoint()), corpus, "valid", ["eng-nso"], cosine, 4)
    hashed = {"block": BlockSettings(strata=[2, 4], router={"kind": "hash"})}
    with pytest.raises(ConfigError, match="experts of the router hash cannot be removed"):
        choose_groups(run.translator(run.checkpoint()), corpus, "valid", ["eng-nso"], hashed, 4)
    adapters = {"block": BlockSettings(strata=[2, 4], experts={"kind": "adapters"})}
    with pytest.raises(ConfigError, match="block: experts of the kind adapters cannot be merged; use --keep-experts"):
        choose_groups(run.translator(run.checkpoint()), corpus, "valid", ["eng-nso"], adapters, 4)
