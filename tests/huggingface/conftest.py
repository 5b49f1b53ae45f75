"""Folders of transformers that several tests read and none changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.transformers_folder import saved_folder


@pytest.fixture(scope="session")
def dense_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small M2M100 with NLLB's tokenizer."""
    return saved_folder(tmp_path_factory.mktemp("m2m_100") / "model", "m2m_100")


@pytest.fixture(scope="session")
def moe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small NLLB-MoE."""
    return saved_folder(tmp_path_factory.mktemp("nllb_moe") / "model", "nllb-moe")
