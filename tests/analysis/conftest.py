"""One small corpus for all tests of analysis, and a run on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.data.corpus import Corpus
from tests.helpers.prepared import small_corpus
from tests.helpers.random_run import random_run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return small_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    return random_run(tmp_path_factory.mktemp("run"), corpus)
