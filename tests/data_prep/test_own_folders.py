"""The folders beside an output: those of others stay as they are, one's own are known again after a kill."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_prep.own_folders import LOCK, check_own, is_own, remove_own
from smoe_ds.errors import DataError
from tests.helpers.environment import ROOT
from tests.helpers.prepared import prepare_spec, small_spec, write_spec

TEXT = "a thesis"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a specification, its text and the corpus; to be copied."""
    folder = tmp_path_factory.mktemp("own")
    prepare_spec(folder, small_spec(folder, languages=("nso",), size=100))
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    return shutil.copytree(prepared, tmp_path / "here")


def spec_of(folder: Path, **changes: Any) -> dict[str, Any]:
    return small_spec(folder, languages=("nso",), size=100) | changes


def foreign(folder: Path) -> Path:
    """Somebody else's folder."""
    folder.mkdir()
    (folder / "thesis.txt").write_text(TEXT)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("suffix", ["work", "old", "crew"])
def test_a_folder_of_somebody_else_stays_when_the_output_is_there(folder: Path, suffix: str) -> None:
    thesis = foreign(folder / f"corpus.{suffix}") / "thesis.txt"
    prepare_spec(folder, spec_of(folder))
    assert thesis.read_text() == TEXT


def test_a_copy_beside_the_output_stays_whatever_happens(folder: Path) -> None:
    copy = Path(shutil.copytree(folder / "corpus", folder / "corpus.old"))
    before = content(copy)
    vocabulary = {"vocab_size": 99_999, "num_threads": 1}
    with pytest.raises(DataError, match="is more than this text has"):
        prepare_spec(folder, spec_of(folder, sentencepiece=vocabulary), overwrite=True)
    assert content(copy) == before
    prepare_spec(folder, spec_of(folder, seed=3), overwrite=True)
    assert content(copy) == before
    shutil.rmtree(folder / "corpus")
    prepare_spec(folder, spec_of(folder, seed=2))
    assert content(copy) == before


def test_a_work_folder_of_somebody_else_is_refused_by_name(folder: Path) -> None:
    shutil.rmtree(folder / "corpus")
    thesis = foreign(folder / "corpus.work") / "thesis.txt"
    with pytest.raises(DataError, match=r"/corpus.work: holds thesis.txt, not known as a preparation's own, and "):
        prepare_spec(folder, spec_of(folder))
    (folder / "corpus.work" / LOCK).touch()
    with pytest.raises(DataError, match=r"/corpus.work: holds thesis.txt, not known"):
        prepare_spec(folder, spec_of(folder))
    assert thesis.read_text() == TEXT and not (folder / "corpus").exists()
    shutil.move(thesis, folder)
    prepare_spec(folder, spec_of(folder))
    assert not (folder / "corpus.work").exists()


def test_names_like_ones_own_are_not_enough(folder: Path) -> None:
    shutil.rmtree(folder / "corpus")
    (folder / "corpus.work" / "raw").mkdir(parents=True)
    (folder / "corpus.work" / "raw" / "thesis.txt").write_text(TEXT)
    with pytest.raises(DataError, match=r"/corpus.work: holds raw, not known"):
        prepare_spec(folder, spec_of(folder))
    assert (folder / "corpus.work" / "raw" / "thesis.txt").read_text() == TEXT


def test_a_crew_folder_of_somebody_else_is_refused_by_name(folder: Path) -> None:
    thesis = foreign(folder / "other.crew") / "thesis.txt"
    command = [
        sys.executable,
        "-m",
        "data_prep",
        str(folder / "spec.yaml"),
        "--share",
        "--output",
        str(folder / "other"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "other.crew: holds thesis.txt, not known" in done.stderr
    assert thesis.read_text() == TEXT and not (folder / "other").exists()


DIES_BEFORE = """
import os, signal, sys
from pathlib import Path
from data_prep.cli import main

name, number = sys.argv[1], int(sys.argv[2])
act = getattr(os, name)

def dying(*arguments, **options):
    global number
    if "corpus.work" in os.fspath(arguments[0]):
        number -= 1
        if number < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return act(*arguments, **options)

setattr(os, name, dying)
main(sys.argv[3:])
"""


@pytest.mark.parametrize(("call", "number"), [("mkdir", 0), ("mkdir", 1), ("open", 0), ("rmdir", 0)])
def test_killed_while_the_folder_is_made_or_removed(folder: Path, call: str, number: int) -> None:
    """Its lock is there before anything else, and goes last: what is left is known again."""
    before = content(folder / "corpus")
    shutil.rmtree(folder / "corpus")
    path = write_spec(folder, spec_of(folder))
    command = [sys.executable, "-c", DIES_BEFORE, call, str(number), str(path), "--quiet"]
    died = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120)
    assert died.returncode == -signal.SIGKILL
    prepare_spec(folder, spec_of(folder))
    assert content(folder / "corpus") == before
    assert not (folder / "corpus.work").exists()


def test_what_the_last_moment_of_a_killed_preparation_left_goes(folder: Path) -> None:
    (folder / "corpus.work").mkdir()
    prepare_spec(folder, spec_of(folder))
    assert not (folder / "corpus.work").exists()


def test_only_ones_own_is_removed(tmp_path: Path) -> None:
    own = tmp_path / "x.work"
    for name in (LOCK, "records/a", "draft.1/b"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).touch()
    places, output = ("records", "draft.*"), tmp_path / "x"
    assert is_own(own, places, output)
    check_own(own, places, output)
    (own / "notes").write_text(TEXT)
    assert not is_own(own, places, output)
    remove_own(own, places)
    assert sorted(path.name for path in own.iterdir()) == [LOCK, "notes"]
    (own / "notes").unlink()
    remove_own(own, places)
    assert not own.exists() and not is_own(own, places, output)
    check_own(own, places, output)
