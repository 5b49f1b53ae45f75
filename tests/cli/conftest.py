"""Runs for the tests of commands that need one."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.data.corpus import Corpus
from tests.helpers.random_run import random_run
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import small_run, train_on_rank, write_run


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """A run folder with random weights, whose answers are of many kinds: checkpoints 30 (best) and 60 (last)."""
    return random_run(tmp_path_factory.mktemp("random"), corpus, steps=(30, 60))


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """A run folder written by the train command: 4 steps on two ranks that share the experts."""
    folder = tmp_path_factory.mktemp("trained")
    run = small_run(folder / "run", corpus.path, max_steps=4, validate_every=2, checkpoint_every=2)
    run["smoe"]["moe"]["ep_size"] = 2
    file = write_run(folder / "run.json", run)
    assert run_ranks(train_on_rank, 2, str(file), [], init=False, timeout=240) == [0, 0]
    return folder / "run"
