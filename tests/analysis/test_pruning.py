"""Choices counted against a loop over tokens; the rule that picks experts against its definition."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from smoe_ds.analysis.expert_use import ExpertUse
from smoe_ds.analysis.pruning import KeepRule, experts_to_keep, experts_to_remove, held_out_batches, measure_use
from smoe_ds.config.block import BlockSettings
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.validation_batches import ValidationBatches
from smoe_ds.decode.load import TrainedRun
from smoe_ds.decode.translator import Translator
from smoe_ds.errors import ConfigError, DataError
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.placement import Placement
from tests.helpers.layers import loop_of
from tests.helpers.naive_moe import Settings
from tests.helpers.prepared import small_corpus
from tests.helpers.random_run import random_run


def in_float64(run_dir: Path) -> Translator:
    run = TrainedRun(run_dir, device="cpu")
    translator = run.translator(run.checkpoint())
    translator.model.double()
    return translator


def test_counts_are_the_loop_s(tmp_path: Path, corpus: Corpus) -> None:
    run_dir = random_run(tmp_path, corpus, moe={"strata": [2, 3, 3]})
    translator = in_float64(run_dir)
    use = measure_use(translator, held_out_batches(translator, corpus, "valid", ["eng-nso", "cat-eng"]))
    assert list(use) == ["eng-nso", "cat-eng"]
    seen: list[tuple[StratifiedMoE, Tensor, Tensor]] = []

    def remember(block: nn.Module, inputs: tuple[Tensor, Tensor, None], _: object) -> None:
        assert isinstance(block, StratifiedMoE)
        seen.append((block, *inputs[:2]))

    for module in translator.model.modules():
        if isinstance(module, StratifiedMoE):
            module.register_forward_hook(remember)
    ids = {name: corpus.tokenizer.language_id(name) for name in corpus.tokenizer.languages}
    sentences = corpus.sentences("valid", "eng-nso")
    batches = ValidationBatches(sentences, ids, translator.data, max_positions=64, rank=0, world_size=1)
    first, every = {name: [0] * 8 for name in use["eng-nso"]}, {name: [0] * 8 for name in use["eng-nso"]}
    with torch.no_grad():
        for batch in batches:
            translator.model(batch.src, batch.tgt_in)
        for block, x_BTD, padding_BT in seen:
            loop = loop_of(block, Settings(strata=[2, 3, 3]), x_BTD.flatten(0, 1), padding_BT.flatten().tolist())
            for chosen in (chosen for passes in loop.choices for chosen in passes):
                first[block.name][chosen[0]] += 1
                for e in chosen:
                    every[block.name][e] += 1
    for name, counts in use["eng-nso"].items():
        assert counts.first_E.tolist() == first[name]
        assert counts.all_E.tolist() == every[name]
        assert counts.share_E.tolist() == pytest.approx([n / sum(every[name]) for n in every[name]])
    assert set(first) == {"encoder.layers.1.ffn", "decoder.layers.1.ffn"}
    assert (
        use["eng-nso"]["decoder.layers.1.ffn"].all_E.tolist() != use["cat-eng"]["decoder.layers.1.ffn"].all_E.tolist()
    )


def test_a_corpus_of_another_vocabulary_is_refused(tmp_path: Path, run_dir: Path) -> None:
    other = small_corpus(tmp_path, ["rus"])
    with pytest.raises(DataError, match="prepared with another vocabulary"):
        held_out_batches(in_float64(run_dir), other, "valid", ["eng-rus"])


@pytest.mark.parametrize(("strata", "stacked", "top_k"), [((6,), False, 2), ((2, 4), False, 2), ((3, 2, 3), False, 1)])
def test_the_most_used_stay(strata: tuple[int, ...], stacked: bool, top_k: int) -> None:
    draw = random.Random(1)
    placement = Placement(strata, 1, stacked)
    total = sum(strata)
    for _ in range(30):
        score = torch.tensor([draw.choice([0, 0.05, 0.1, 0.2, 0.3]) for _ in range(total)], dtype=torch.float64)
        for number in range(len(strata) - 1 + top_k, total + 1):
            kept = experts_to_keep(score, placement, top_k, KeepRule(number=number))
            assert len(kept) == number and kept == sorted(kept)
            in_stratum = [[e for e in kept if placement.stratum_of(e) == i] for i in range(len(strata))]
            assert all(in_stratum) and len(in_stratum[-1]) >= top_k
            spare = [e for members in in_stratum[:-1] if len(members) > 1 for e in members]
            spare += in_stratum[-1] if len(in_stratum[-1]) > top_k else []
            gone = [e for e in range(total) if e not in kept]
            assert not [e for e in spare for other in gone if score[other] > score[e]]
        kept = experts_to_keep(score, placement, top_k, KeepRule(share=0.1))
        assert {e for e in range(total) if score[e] >= 0.1} <= set(kept)
        below = [e for e in kept if score[e] < 0.1]
        assert len(below) <= len(strata) - 1 + top_k


def test_stacked_strata_each_keep_top_k() -> None:
    score = torch.tensor([0.5, 0.5, 0, 0, 0, 0], dtype=torch.float64)
    placement = Placement((3, 3), 1, True)
    assert experts_to_keep(score, placement, 2, KeepRule(share=0.9)) == [0, 1, 3, 4]
    with pytest.raises(ConfigError, match=r"--keep-experts 3: expected 4 to 6"):
        experts_to_keep(score, placement, 2, KeepRule(number=3))


def test_an_expert_that_one_direction_needs_stays() -> None:
    """Shares are taken within a direction: one with few sentences counts as much as one with many."""
    many, few = [900, 10, 60, 30, 0, 0], [0, 0, 4, 2, 1, 3]
    use = {
        name: {"block": ExpertUse(torch.tensor(counts), torch.tensor(counts))}
        for name, counts in (("eng-nso", many), ("nso-eng", few))
    }
    blocks = {"block": BlockSettings(strata=[2, 4])}
    assert experts_to_remove(use, blocks, KeepRule(share=0.15)) == {"block": [1, 4]}
    assert experts_to_remove({"eng-nso": use["eng-nso"]}, blocks, KeepRule(share=0.15)) == {"block": [1, 4, 5]}
    assert experts_to_remove(use, blocks, KeepRule(number=5)) == {"block": [1]}
