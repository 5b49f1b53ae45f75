"""What tests of several packages share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import load_translator
from smoe_ds.decode.translator import Translator
from tests.helpers.prepared import small_corpus
from tests.helpers.random_run import random_run
from tests.selection import (  # noqa: F401 - pytest finds its hooks by their names here
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_report_header,
)


def pytest_sessionstart() -> None:
    """What is started from here takes interrupts, even if this was started in the background of a script."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test and its fixtures draw the same random numbers every time, whichever tests ran before it in its process."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """One small corpus for all tests; nobody writes into it."""
    return small_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def corpus_folder(corpus: Corpus) -> Path:
    """Where the small corpus is."""
    return corpus.path


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """A run with random weights, as one that was trained: checkpoints 1 (best), 2 and 3 (last)."""
    return random_run(tmp_path_factory.mktemp("run"), corpus, steps=(1, 2, 3))


@pytest.fixture(scope="session")
def translator(run_dir: Path) -> Translator:
    """Of the run with random weights."""
    return load_translator(run_dir, device="cpu")
