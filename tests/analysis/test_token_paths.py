"""The path of every token against the loop over single tokens, and the paths that other routers give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.analysis.token_paths import sentence_paths
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import TrainedRun, load_translator
from tests.helpers.naive_moe import Settings
from tests.helpers.naive_routing import read_tokens
from tests.helpers.random_run import random_run

STRATA = [2, 3, 3]


def first_pair(corpus: Corpus, direction: str) -> tuple[str, str]:
    source, target = corpus.sentences("valid", direction)[0]
    return corpus.tokenizer.decode(source.tolist()), corpus.tokenizer.decode(target.tolist())


@pytest.mark.parametrize("heads", [1, 2])
def test_every_pass_is_that_of_the_loop(heads: int, tmp_path: Path, corpus: Corpus) -> None:
    run_dir = random_run(tmp_path, corpus, moe={"strata": STRATA, "heads": heads}, model={"encoder_layers": 4})
    translator = load_translator(run_dir, device="cpu")
    translator.model.double()
    paths = sentence_paths(translator, "eng-nso", *first_pair(corpus, "eng-nso"))
    tokens = read_tokens(translator, corpus, "valid", ["eng-nso"], 1, Settings(strata=STRATA))
    for block in paths.blocks:
        of_block = [token for token in tokens if token.block == block.name]
        spelling = [translator.tokenizer.vocabulary()[token.id][0] for token in of_block]
        assert list(paths.tokens[block.side]) == spelling
        assert block.requested_capacities == [token.requested_capacity for token in of_block]
        for slices, token in zip(block.tokens, of_block, strict=True):
            assert len(slices) == heads
            for path, way in zip(slices, token.ways, strict=True):
                assert [list(one.experts) for one in path] == [list(choices) for choices in way.choices]
                assert all(sum(one.weights) == pytest.approx(1) for one in path)
                after = [next(i for i in range(3) if one.experts[0] < sum(STRATA[: i + 1])) + 1 for one in path]
                assert [one.stratum for one in path] == [0, *after[:-1]]
                assert after[-1] == 3
    assert {block.name for block in paths.blocks} == {token.block for token in tokens}
    assert any(len(path) < 3 for block in paths.blocks for slices in block.tokens for path in slices)


@pytest.mark.parametrize(
    "moe",
    [
        {"strata": [2, 2], "router": {"kind": "top_p"}},
        {"strata": [2, 2], "router": {"kind": "dynamic"}},
        {"strata": [2, 2], "router": {"kind": "hash"}},
        {"strata": [2, 2], "stacked": True},
        {"strata": [4], "layers": {"encoder.*": {"router": {"kind": "expert_choice"}}}},
    ],
    ids=["top_p", "dynamic", "hash", "stacked", "expert choice"],
)
def test_other_routers_add_up_to_the_statistics(moe: dict[str, Any], tmp_path: Path, corpus: Corpus) -> None:
    translator = load_translator(random_run(tmp_path, corpus, moe=moe), device="cpu")
    source, target = first_pair(corpus, "cat-eng")
    paths = sentence_paths(translator, "cat-eng", source, target)
    batch = translator.pair(*translator.encoded([source, target]), "eng")
    with torch.inference_mode():
        _, stats = translator.model(batch.src, batch.tgt_in)
    for block, of_block in zip(paths.blocks, stats, strict=True):
        assert block.requested_capacities == of_block.requested_capacity[0].tolist()
        for i, stratum in enumerate(of_block.strata):
            taken = [e for (path,) in block.tokens for one in path if one.stratum == i for e in one.experts]
            assert len(taken) == int(stratum.requested_KE.sum())


def test_the_model_translates_where_no_translation_is_given(run_dir: Path) -> None:
    translator = load_translator(run_dir, device="cpu")
    paths = sentence_paths(translator, "eng-nso", "The house sees the river.")
    (answer,) = translator.translate(["The house sees the river."], "nso")
    assert paths.translation == answer.text
    assert len(paths.tokens["decoder"]) == len(answer.tokens) + 1
    assert not paths.cut


def test_dense_and_long(tmp_path: Path, corpus: Corpus) -> None:
    run = TrainedRun(random_run(tmp_path, corpus, moe={"strata": []}), device="cpu")
    paths = sentence_paths(run.translator(run.checkpoint()), "eng-nso", "house " * 500, "mi")
    assert paths.blocks == ()
    assert paths.cut
    assert len(paths.tokens["encoder"]) == run.config.smoe.model.max_positions
