"""Losses by group against a loop over tokens, and against the validation of training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from smoe_ds.analysis.listening import moe_blocks
from smoe_ds.analysis.pieces import piece_kind
from smoe_ds.analysis.pruning import held_out_batches
from smoe_ds.analysis.routing_analysis import analyse_routing
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import TrainedRun
from smoe_ds.train.validation import validate
from tests.helpers.random_run import random_run
from tests.helpers.ranks import run_ranks

DIRECTIONS = ["cat-eng", "eng-cat", "eng-nso", "nso-eng"]
LIMIT = 4


@pytest.mark.parametrize("strata", [[], [2, 2]], ids=["dense", "experts"])
def test_losses_of_every_group(strata: list[int], tmp_path: Path, corpus: Corpus) -> None:
    run = TrainedRun(random_run(tmp_path, corpus, moe={"strata": strata}, data={"max_tokens": 64}), device="cpu")
    translator = run.translator(run.checkpoint())
    found = analyse_routing(translator, corpus, "valid", DIRECTIONS, LIMIT)
    assert found.is_dense == (not strata)
    batches = held_out_batches(translator, corpus, "valid", DIRECTIONS, LIMIT)
    vocabulary, languages = corpus.tokenizer.vocabulary(), set(corpus.tokenizer.language_ids.values())
    by_group: dict[tuple[str, str], list[float]] = {}
    count: dict[int, int] = {}
    tokens: list[tuple[str, int, int, float]] = []
    for direction, some in batches.items():
        for batch in some:
            with torch.no_grad():
                logits, _ = translator.model(batch.src, batch.tgt_in)
            for row in range(len(batch.src)):
                for index in [*batch.src[row].tolist(), *batch.tgt_in[row].tolist()]:
                    count[index] = count.get(index, 0) + 1
                for place, index in enumerate(batch.tgt_out[row].tolist()):
                    if index:
                        nll = -float(torch.log_softmax(logits[row, place].double(), 0)[index])
                        tokens.append((direction, index, place + 1, nll))
    text = [index for index in count if index and vocabulary[index][1] != "control"]
    rank = {index: place for place, index in enumerate(sorted(text, key=lambda index: (-count[index], index)), 1)}
    for direction, index, position, nll in tokens:
        kind = piece_kind(index, *vocabulary[index], languages)
        groups = {"all": "all", "direction": direction, "language": direction.split("-")[1], "kind": kind}
        if index in rank:
            groups["frequency"] = "1-10" if rank[index] <= 10 else "11-100"
        for by, group in (groups | {"position": str(position)}).items():
            by_group.setdefault((by, group), []).append(nll)
    got = {(one.by, one.group): (one.tokens, one.nll) for one in found.losses}
    assert len(got) == len(found.losses) and got.keys() == by_group.keys()
    for key, values in by_group.items():
        assert got[key] == (len(values), pytest.approx(sum(values) / len(values), rel=1e-5)), key
    assert {key[1] for key in got if key[0] == "frequency"} == {"1-10", "11-100"}
    (validated,) = run_ranks(validated_losses, 1, run.folder, corpus.path)
    assert found.loss("direction") == pytest.approx(validated, rel=1e-5)


def validated_losses(rank: int, world_size: int, run_dir: Path, corpus: Path) -> dict[str, float]:
    run = TrainedRun(run_dir, device="cpu")
    translator = run.translator(run.checkpoint())
    batches = held_out_batches(translator, Corpus(corpus), "valid", DIRECTIONS, LIMIT, rank, world_size)
    sides = [name.split(".")[0] for name in moe_blocks(translator.model)]
    return validate(translator.model, batches, torch.device("cpu"), sides).nll
