"""What the operating system refuses is said in one line, with the place and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.cli import main
from smoe_ds.data.manifest import read_manifest
from smoe_ds.errors import DataError
from tests.helpers.prepared import small_corpus, small_spec, write_spec
from tests.helpers.unprivileged import open_folder, unprivileged


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        write_spec(folder, small_spec(folder, languages=("nso",), size=60))
        yield folder


def error_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with unprivileged():
        assert main([*map(str, words), "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and "Errno" not in err
    return err


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("closed", "{}/closed: cannot be read: Permission denied; make the folders on its path readable, or"),
        ("closed/corpus", "'{}/closed/corpus': cannot be an output (Permission denied); choose another one"),
    ],
)
def test_an_output_that_cannot_be_looked_into(
    folder: Path, capsys: pytest.CaptureFixture[str], output: str, problem: str
) -> None:
    (folder / "closed").mkdir(mode=0)
    assert problem.format(folder) in error_of(capsys, folder / "spec.yaml", "--output", folder / output)


@pytest.mark.parametrize("options", [[], ["--share"]])
def test_a_folder_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    (folder / "fixed").mkdir(mode=0o555)
    err = error_of(capsys, folder / "spec.yaml", "--output", folder / "fixed/corpus", *options)
    assert f"{folder}/fixed/corpus.{'crew' if options else 'work'}" in err and "Permission denied; fix this" in err


def test_a_lock_of_another_user(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "corpus.work").mkdir()
    (folder / "corpus.work/lock").touch(mode=0o400)
    err = error_of(capsys, folder / "spec.yaml")
    assert f"{folder}/corpus.work/lock: cannot be locked: Permission denied; make its folder writable, or" in err


def test_a_manifest_that_cannot_be_read_is_not_called_damaged(folder: Path) -> None:
    corpus = small_corpus(folder, languages=("nso",), size=60)
    (corpus.path / "manifest.json").chmod(0)
    with unprivileged(), pytest.raises(DataError) as caught:
        read_manifest(corpus.path)
    assert "manifest.json: cannot be read (Permission denied); fix its permissions" in str(caught.value)
    assert "prepare" not in str(caught.value)


def test_a_file_is_no_folder_of_a_corpus(folder: Path) -> None:
    with pytest.raises(DataError, match=r"/spec.yaml: is a file; name the folder that `python -m data_prep SPEC.yaml`"):
        read_manifest(folder / "spec.yaml")
