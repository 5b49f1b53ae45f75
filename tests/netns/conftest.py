"""One small corpus for all tests of hosts that are apart; without namespaces they are skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.hosts import why_not
from tests.helpers.prepared import small_corpus


@pytest.fixture(scope="session", autouse=True)
def namespaces() -> None:
    if problem := why_not():
        pytest.skip(problem)


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus")).path
