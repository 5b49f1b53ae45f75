"""An interrupted preparation: the next run goes on with what is finished and gives the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from data_prep.output.folder import work_folder
from data_prep.output.lock import locked
from data_prep.stages.pieces import Pieces
from smoe_ds.errors import DataError
from tests.helpers.disks import resize, small_disk
from tests.helpers.prepared import prepare_spec, small_spec, write_pair

PIECE = 90  # sentence pairs; five pieces a pair
Files = dict[str, bytes]


def make_spec(folder: Path) -> dict[str, Any]:
    spec = small_spec(folder, languages=("nso", "cat"))
    spec["pairs"][0]["test"] = write_pair(folder, "test", "nso", range(60, 80))
    return spec | {"shards": {"sentences": 100}}


def files_of(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def commits(act: Callable[[int], None] = lambda _: None) -> Iterator[list[str]]:
    """Collects the names of pieces while they are finished in this process; ``act`` gets their number before each."""
    names: list[str] = []
    commit = Pieces.commit

    def collect(self: Pieces, name: str, *arguments: Any, durable: bool) -> None:
        act(len(names))
        names.append(name)
        commit(self, name, *arguments, durable=durable)

    Pieces.commit = collect  # type: ignore[method-assign]
    try:
        yield names
    finally:
        Pieces.commit = commit  # type: ignore[method-assign]


def lasting(names: list[str]) -> list[str]:
    """Pieces that the next run takes over: all but text on its way to be cleaned, and where a text ends."""
    return sorted(name for name in names if not name.startswith(("raw/", "read/")))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, list[str], float]:
    """The files of a run that nothing disturbs, its pieces, and the time it takes [s]."""
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = make_spec(folder)
    began = time.monotonic()
    with commits() as names:
        corpus = prepare_spec(folder, spec, piece_size=PIECE)
    return files_of(corpus.path), names, time.monotonic() - began


class Killed:
    """A preparation in a process of its own, which is killed."""

    def __init__(self, folder: Path, spec: dict[str, Any], **options: Any) -> None:
        self._arguments = (folder, spec, {"piece_size": PIECE, **options})

    def _prepare(self, replacements: int) -> None:
        folder, spec, options = self._arguments
        if replacements:
            self._die_at(replacements)
        prepare_spec(folder, spec, **options)

    @staticmethod
    def _die_at(number: int) -> None:
        """Kills this process when a file is put in its place for the given time."""
        replace, left = Path.replace, iter(range(number - 1, -1, -1))

        def dying(self: Path, target: Path) -> Path:
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(self, target)

        Path.replace = dying  # type: ignore[method-assign, assignment]

    def after(self, seconds: float) -> None:
        process = self._start(0)
        process.join(seconds)
        process.kill()
        process.join()

    def at_replacement(self, number: int) -> None:
        process = self._start(number)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL

    def _start(self, replacements: int) -> multiprocessing.process.BaseProcess:
        process = multiprocessing.get_context("fork").Process(target=self._prepare, args=(replacements,))
        process.start()
        return process


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_again_and_again(
    tmp_path: Path, undisturbed: tuple[Files, list[str], float], seed: int
) -> None:
    files, _, duration = undisturbed
    rng = random.Random(seed)
    spec = make_spec(tmp_path)
    for _ in range(3):
        Killed(tmp_path, spec).after(rng.uniform(0, duration))
    corpus = prepare_spec(tmp_path, spec, piece_size=PIECE)
    assert files_of(corpus.path) == files
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["corpus"]


@pytest.mark.parametrize("seed", range(6))
def test_killed_between_two_files(tmp_path: Path, undisturbed: tuple[Files, list[str], float], seed: int) -> None:
    files, names, _ = undisturbed
    spec = make_spec(tmp_path)
    Killed(tmp_path, spec).at_replacement(random.Random(seed).randint(2, 2 * len(names)))
    done = [path.relative_to(tmp_path / "corpus.work/records").with_suffix("").as_posix()
            for path in (tmp_path / "corpus.work/records").rglob("*.json")]  # fmt: skip
    with commits() as again:
        corpus = prepare_spec(tmp_path, spec, piece_size=PIECE)
    assert files_of(corpus.path) == files
    assert lasting(again + done) == lasting(names), "a finished piece was made again"


def test_killed_while_an_earlier_result_is_replaced(
    tmp_path: Path, undisturbed: tuple[Files, list[str], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(tmp_path)
    other = prepare_spec(tmp_path, spec | {"seed": 2}, piece_size=PIECE)
    before = files_of(other.path)
    rename = Path.rename

    def stop(self: Path, target: Path) -> Path:
        if self.parent.name == "corpus.work":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare_spec(tmp_path, spec, piece_size=PIECE, overwrite=True)
    monkeypatch.undo()
    assert files_of(tmp_path / "corpus.work/earlier") == before
    with commits() as again:
        corpus = prepare_spec(tmp_path, spec, piece_size=PIECE, overwrite=True)
    assert files_of(corpus.path) == undisturbed[0] and not lasting(again)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["corpus"]


@contextmanager
def stopped_at(number: int) -> Iterator[None]:
    def stop(done: int) -> None:
        if done == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), commits(stop):
        yield


def test_finished_shards_are_verified_and_not_written_again(
    tmp_path: Path, undisturbed: tuple[Files, list[str], float]
) -> None:
    files, names, _ = undisturbed
    spec = make_spec(tmp_path)
    with stopped_at(len(names) - 2):
        prepare_spec(tmp_path, spec, piece_size=PIECE)
    times = modified(tmp_path / "corpus.work/corpus")
    damaged, *_ = (name for name in times if name.endswith("00001.nso.bin"))
    path = tmp_path / "corpus.work/corpus" / damaged
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    corpus = prepare_spec(tmp_path, spec, piece_size=PIECE)
    assert files_of(corpus.path) == files
    again = modified(corpus.path)
    changed = {name for name in times if times[name] != again[name]}
    assert changed == {damaged, damaged.replace("nso.bin", "eng.bin")} and len(times) > 20


def modified(folder: Path) -> dict[str, int]:
    """Times at which the token files of a corpus were written [ns]."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*.bin"))}


@pytest.mark.parametrize("change", ["input", "seed", "limit", "piece"])
def test_what_changed_between_the_runs_is_made_anew(tmp_path: Path, change: str) -> None:
    spec = make_spec(tmp_path)
    with commits() as names:
        prepare_spec(tmp_path, spec | {"output": "whole"}, piece_size=PIECE)
    with stopped_at(len(names) - 2):
        prepare_spec(tmp_path, spec, piece_size=PIECE)
    size = PIECE
    if change == "input":
        write_pair(tmp_path, "train", "cat", range(49, 449))
    elif change == "piece":
        size = 70
    else:
        spec |= {"seed": 5} if change == "seed" else {"clean": {"max_pieces": 20}}
    with commits() as again:
        corpus = prepare_spec(tmp_path, spec, piece_size=size)
    fresh = prepare_spec(tmp_path, spec | {"output": "fresh"})
    assert files_of(corpus.path) == files_of(fresh.path)
    kept = {name for name in lasting(names) if name not in again}
    if change == "input":
        assert kept and all("eng-nso" in name for name in kept if name.startswith("clean/"))


def test_an_input_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)

    def change(done: int) -> None:
        if done == 2:
            (tmp_path / "train.eng-nso.eng").touch()

    with commits(change), pytest.raises(DataError, match=r"train.eng-nso.eng: changed while it was read; run the same"):
        prepare_spec(tmp_path, spec, piece_size=PIECE)


def test_after_a_full_disk_and_more_room_it_goes_on(
    tmp_path: Path, undisturbed: tuple[Files, list[str], float]
) -> None:
    spec = make_spec(tmp_path)
    output = tmp_path / "disk" / "corpus"
    with small_disk(tmp_path / "disk", "300k"):
        spec["output"] = "disk/corpus"
        with pytest.raises(DataError, match=r"disk/corpus.work/\S+: No space left on device: it needs [\d,]+ bytes"):
            prepare_spec(tmp_path, spec, piece_size=PIECE)
        done = Pieces(work_folder(output)).count()
        resize(tmp_path / "disk", "30m")
        with commits() as again:
            corpus = prepare_spec(tmp_path, spec, piece_size=PIECE)
        assert files_of(corpus.path) == undisturbed[0]
        assert done > 5 and len(lasting(again)) < len(lasting(undisturbed[1]))


def test_a_second_preparation_of_the_same_output_is_refused(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    work = work_folder(tmp_path / "corpus")

    def second() -> None:
        with pytest.raises(DataError, match=rf"corpus: process {os.getppid()} on \S+ is preparing it"):
            prepare_spec(tmp_path, spec)

    with locked(work / "lock", tmp_path / "corpus", print):
        process = multiprocessing.get_context("fork").Process(target=second)
        process.start()
        process.join(60)
        assert process.exitcode == 0
        assert list(work.iterdir()) == [work / "lock"]
