"""Without network namespaces the tests of hosts that are apart are skipped."""

from __future__ import annotations

import pytest

from tests.helpers.hosts import why_not


@pytest.fixture(scope="session", autouse=True)
def namespaces() -> None:
    if problem := why_not():
        pytest.skip(problem)
