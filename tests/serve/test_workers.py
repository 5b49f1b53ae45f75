"""The number of workers follows cores and memory; too many are warned of."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.cli.main import main
from smoe_ds.parallel.cores import Cores
from smoe_ds.serve import server
from smoe_ds.serve.settings import Settings
from smoe_ds.serve.workers import Room

GIB = 2**30


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (Room(cores=1, free=64 * GIB, model=GIB), 1),
        (Room(cores=3, free=64 * GIB, model=GIB), 1),
        (Room(cores=4, free=64 * GIB, model=GIB), 2),
        (Room(cores=7, free=64 * GIB, model=GIB), 3),
        (Room(cores=64, free=64 * GIB, model=GIB), 4),
        (Room(cores=64, free=6 * GIB, model=GIB), 2),
        (Room(cores=64, free=GIB, model=GIB), 1),
        (Room(cores=64, free=64 * GIB, model=GIB, gpu=True), 1),
    ],
)
def test_as_many_as_there_is_room_for(room: Room, expected: int) -> None:
    assert room.default_workers() == expected
    assert room.warnings(expected) == []


def test_what_speaks_against_more() -> None:
    assert Room(cores=2, free=4 * GIB, model=GIB).warnings(2) == []
    assert Room(cores=2, free=64 * GIB, model=GIB).warnings(3) == [
        "3 workers share 2 cores: more workers than cores translate nothing faster, and each of them holds the model"
    ]
    assert Room(cores=8, free=4 * GIB, model=GIB).warnings(3) == [
        "3 workers need about 4.2 GiB, and 4.0 GiB are free: the system may end them; take fewer"
    ]
    assert Room(cores=2, free=GIB, model=GIB, gpu=True).warnings(3) == []


@pytest.mark.parametrize(("arguments", "workers", "warned"), [([], 2, False), (["--workers", "9"], 9, True)])
def test_what_the_command_makes_of_it(
    run_dir: Path,
    arguments: list[str],
    workers: int,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a machine of four cores."""
    started: list[Settings] = []
    monkeypatch.setattr("smoe_ds.parallel.cores.cores_here", lambda: Cores(4, 4))
    monkeypatch.setattr(server, "serve", lambda settings, _: started.append(settings))
    assert main(["serve", str(run_dir), "--device", "cpu", *arguments]) == 0
    assert [settings.workers for settings in started] == [workers]
    assert ("9 workers share 4 cores" in capsys.readouterr().err) == warned
