"""One small corpus for all tests of evaluation, and a model on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import load_translator
from smoe_ds.decode.translator import Translator
from tests.helpers.prepared import small_corpus
from tests.helpers.random_run import random_run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return small_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def translator(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Translator:
    run_dir: Path = random_run(tmp_path_factory.mktemp("run"), corpus)
    return load_translator(run_dir, device="cpu")
