"""The garbage collector stands still inside, and is afterwards as it was, after an error too."""

from __future__ import annotations

import gc

import pytest

from data_prep.stages.collector import collector_paused


@collector_paused()
def collects(error: Exception | None = None) -> bool:
    if error:
        raise error
    with collector_paused():
        pass
    return gc.isenabled()


def test_paused_inside_and_restored() -> None:
    assert gc.isenabled()
    assert not collects() and gc.isenabled()
    with pytest.raises(ValueError, match="broken"):
        collects(ValueError("broken"))
    assert gc.isenabled()
    gc.disable()
    try:
        assert not collects() and not gc.isenabled()
    finally:
        gc.enable()
