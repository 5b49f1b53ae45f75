"""Validation by direction: requested capacity against a recount, translations against a search of width 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.config.load import load_run
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import TrainedRun
from smoe_ds.model.loss import translation_loss
from smoe_ds.parallel.env import Env
from smoe_ds.parallel.launchers import discover
from smoe_ds.train.open_data import open_translations, open_validation
from smoe_ds.train.validation import Validation, validate
from smoe_ds.train.validation_translations import TranslatedDirection
from tests.helpers.random_run import random_run
from tests.helpers.ranks import run_ranks

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    model = {"encoder_layers": 4, "decoder_layers": 2}
    return random_run(tmp_path_factory.mktemp("run"), corpus, model=model, moe={"strata": [2, 2, 4]})


def opened(folder: Path, env: Env) -> tuple[Any, ...]:
    run = load_run(folder / "config.json", ["smoe.train.validate_bleu=4"])
    trained = TrainedRun(folder, device="cpu")
    corpus = Corpus(Path(run.smoe.data.path), verify=False)
    return run, corpus, trained, open_validation(run, corpus, env)


def validated(rank: int, world_size: int, folder: str, sides: Sequence[str]) -> Validation:
    _, _, trained, batches = opened(Path(folder), discover())
    model = trained.translator(trained.checkpoint()).model.train()
    found = validate(model, batches, CPU, sides)
    assert model.training
    return found


@pytest.mark.multirank
def test_requested_capacity_is_that_of_a_recount(folder: Path) -> None:
    found, other = run_ranks(validated, 2, str(folder), ["encoder", "encoder", "decoder"])
    assert found == other
    _, _, trained, batches = opened(folder, discover())
    model = trained.translator(trained.checkpoint()).model
    for direction, of_direction in batches.items():
        passes: list[list[int]] = [[], [], []]
        nll = 0.0
        for batch in of_direction:
            with torch.no_grad():
                logits, stats = model(batch.src, batch.tgt_in)
            nll += translation_loss(logits, batch.tgt_out, 0.0).nll.item()
            for place, (block, ids) in enumerate(zip(stats, (batch.src, batch.src, batch.tgt_in), strict=True)):
                counts = block.requested_capacity.flatten().tolist()
                passes[place] += [count for count, token in zip(counts, ids.flatten().tolist(), strict=True) if token]
        means = [sum(counts) / len(counts) for counts in passes]
        assert found.nll[direction] == pytest.approx(nll / of_direction.num_tgt_tokens)
        assert found.requested_capacity["encoder"][direction] == pytest.approx((means[0] + means[1]) / 2)
        assert found.requested_capacity["decoder"][direction] == pytest.approx(means[2])
        assert 1 < means[0] < 3


@pytest.mark.multirank
def test_a_dense_model_has_no_requested_capacity(tmp_path: Path, corpus: Corpus) -> None:
    (found,) = run_ranks(validated, 1, str(random_run(tmp_path, corpus, moe={"strata": []})), [])
    assert found.requested_capacity == {} and len(found.nll) == 4


def translated(rank: int, world_size: int, folder: str) -> dict[str, TranslatedDirection]:
    env = discover()
    run, corpus, trained, batches = opened(Path(folder), env)
    translations = open_translations(run, corpus, batches, env, CPU)
    assert translations is not None
    return translations.translate(trained.translator(trained.checkpoint()).model)


def compare_with_beam_1(folder: Path) -> None:
    found = translated(0, 1, str(folder))
    run = TrainedRun(folder, ["smoe.decode.beam_size=1", "smoe.decode.max_length_factor=9"], device="cpu")
    translator = run.translator(run.checkpoint())
    assert list(found) == ["cat-eng", "eng-cat", "eng-nso", "nso-eng"]
    for direction, one in found.items():
        sources = [sample.source for sample in one.samples]
        source_language, language = direction.split("-")
        expected = [answer.text for answer in translator.translate(sources, language, source_language)]
        for sample, text in zip(one.samples, expected, strict=True):
            shorter = min(len(sample.translation), len(text))
            assert shorter and sample.translation[:shorter] == text[:shorter], "but for the longest length"
            assert sample.direction == direction and sample.reference


def test_translations_are_those_of_a_search_of_width_1(folder: Path) -> None:
    compare_with_beam_1(folder)


@pytest.mark.parametrize(("source", "target"), [("source", "after_end"), ("source_at_end", "after_end"), (True, "end")])
def test_languages_as_others_have_them(tmp_path: Path, corpus: Corpus, source: bool | str, target: str) -> None:
    """The source's own language before it or behind it, and a given token after the decoder's first one, or none."""
    data = {"source_language_token": source, "target_language_token": target}
    compare_with_beam_1(random_run(tmp_path, corpus, data=data))


@pytest.mark.multirank
def test_ranks_that_share_the_sentences_find_the_same(folder: Path) -> None:
    alone = translated(0, 1, str(folder))
    first, *others = run_ranks(translated, 3, str(folder))
    assert others == [{}, {}]
    assert first == alone
