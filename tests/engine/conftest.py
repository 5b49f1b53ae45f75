"""What only some tests of the engine need, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.native_adam import compiled


@pytest.fixture(scope="session")
def native_adam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for TORCH_EXTENSIONS_DIR with DeepSpeed's Adam for the host in it."""
    return compiled(tmp_path_factory)
