"""A small corpus and a run on it, which nothing stands in the way of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.small_run import small_run, write_run


@pytest.fixture
def own_corpus(corpus_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(corpus_folder, tmp_path / "corpus"))


@pytest.fixture
def run_file(corpus_folder: Path, tmp_path: Path) -> Path:
    """A run whose folder is ``run`` beside it; two ranks share the experts."""
    run = small_run(tmp_path / "run", corpus_folder)
    run["zero_optimization"]["reduce_bucket_size"] = 1000000
    return write_run(tmp_path / "run.json", run)
