"""One SLURM of two nodes for all tests, without jobs at the start of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.slurm import Cluster, slurm_cluster, why_not


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(f"SLURM: {reason}")
    with slurm_cluster(tmp_path_factory.mktemp("slurm") / "c") as cluster:
        yield cluster


@pytest.fixture
def slurm(_cluster: Cluster) -> Iterator[Cluster]:
    """A SLURM of two nodes with two processors each; jobs that a test leaves are cancelled."""
    try:
        yield _cluster
    finally:
        _cluster.cancel_all()
