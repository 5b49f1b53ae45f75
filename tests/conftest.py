"""What tests of several packages share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.prepared import small_corpus


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small corpus for all tests; nobody writes into it."""
    return small_corpus(tmp_path_factory.mktemp("corpus")).path
