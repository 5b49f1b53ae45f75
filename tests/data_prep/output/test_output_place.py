"""Where an output may be: links are followed, and what cannot become a corpus, or would be lost, is refused first."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from data_prep.cli import main
from data_prep.output.output_place import check_replaceable, output_place
from smoe_ds.data.corpus import Corpus
from smoe_ds.errors import DataError
from tests.helpers.disks import small_disk
from tests.helpers.prepared import prepare_spec, small_spec, write_spec


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a specification, its text and the corpus; to be copied."""
    folder = tmp_path_factory.mktemp("place")
    prepare_spec(folder, spec_of(folder))
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "here"))


def spec_of(folder: Path, **changes: Any) -> dict[str, Any]:
    return small_spec(folder, languages=("nso",), size=100) | changes


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("there", ["nothing", "empty", "corpus"])
def test_a_link_stays_and_its_target_is_written(folder: Path, there: str) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    if there == "corpus":
        shutil.move(folder / "corpus", scratch / "c")
    elif there == "empty":
        (scratch / "c").mkdir()
    (folder / "link").symlink_to(scratch / "c")
    corpus = prepare_spec(folder, spec_of(folder, output="link", seed=2), overwrite=there == "corpus")
    assert corpus.path == scratch / "c" and (folder / "link").readlink() == scratch / "c"
    assert names(scratch) == ["c"] and not [name for name in names(folder) if name.startswith("link.")]
    assert Corpus(folder / "link").manifest["spec"]["seed"] == 2


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("/", "/: is the root of the file system; choose a folder in it"),
        ("x" * 300, "xxx...: the output's name has 300 bytes, at most 250 are possible"),
        ("é" * 126, "...: the output's name has 252 bytes"),
        ("a\0b", "'a\\x00b': a folder's name cannot have a NUL"),
        ("a\ud800b", "surrogates not allowed"),
        ("loop", "'loop': cannot be an output ("),
    ],
)
def test_what_is_no_place_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: str, message: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "loop").symlink_to("loop")
    before = names(folder)
    assert main([str(folder / "spec.yaml"), "--quiet", "--output", output]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert names(folder) == before


def test_names_that_only_just_fit(folder: Path) -> None:
    corpus = prepare_spec(folder, spec_of(folder, output="x" * 250))
    assert content(corpus.path) == content(folder / "corpus")
    assert output_place(folder / "corpus" / "..") == folder.resolve()


def test_a_mount_point_is_refused_before_anything_is_read(folder: Path) -> None:
    (folder / "train.eng-nso.eng").unlink()
    with small_disk(folder / "disk", "4m"):
        with pytest.raises(
            DataError, match=r"/disk: a file system is mounted there.*choose a folder in it, e.g. \S+/disk/c"
        ):
            prepare_spec_again(folder, "disk")
        assert names(folder / "disk") == []


def prepare_spec_again(folder: Path, output: str) -> None:
    from data_prep.prepare import prepare
    from data_prep.spec.load_spec import load_spec

    prepare(load_spec(folder / "spec.yaml"), folder, folder / output)


@pytest.mark.parametrize("file", ["notes.txt", "sub/manifest.json", "train/eng-nso/00000.more.bin"])
def test_overwriting_loses_no_file_of_others(folder: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    (folder / "corpus" / file).parent.mkdir(exist_ok=True)
    (folder / "corpus" / file).write_text("a thesis")
    before = content(folder / "corpus")
    path = write_spec(folder, spec_of(folder, seed=2))
    assert main([str(path), "--quiet", "--overwrite"]) == 2
    assert (
        f"/corpus: is not replaced, since it also holds {file}, which manifest.json does not" in capsys.readouterr().err
    )
    assert content(folder / "corpus") == before


def test_a_link_in_a_corpus_is_a_file_of_others(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "corpus" / "link").symlink_to(folder / "elsewhere")
    with pytest.raises(DataError, match="also holds link, which"):
        check_replaceable(folder / "corpus")


def test_a_file_that_comes_while_the_corpus_is_prepared_is_not_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import data_prep.prepare

    finish = data_prep.prepare.finish

    def late(*arguments: Any) -> None:
        (folder / "corpus" / "notes.txt").write_text("a thesis")
        finish(*arguments)

    monkeypatch.setattr(data_prep.prepare, "finish", late)
    with pytest.raises(DataError, match=r"also holds notes.txt"):
        prepare_spec(folder, spec_of(folder, seed=2), overwrite=True)
    assert (folder / "corpus" / "notes.txt").read_text() == "a thesis"
    (folder / "corpus" / "notes.txt").unlink()
    monkeypatch.undo()
    prepare_spec(folder, spec_of(folder, seed=2), overwrite=True)
    assert Corpus(folder / "corpus").manifest["spec"]["seed"] == 2 and not (folder / "corpus.work").exists()


@pytest.mark.parametrize("manifest", ["", "{}", '{"format": "smoe-corpus", "version": 1}'])
def test_a_corpus_whose_manifest_is_damaged_or_old_can_be_replaced(folder: Path, manifest: str) -> None:
    before = content(folder / "corpus")
    (folder / "corpus" / "manifest.json").write_text(manifest)
    (folder / "corpus" / "notes.txt").write_text("a thesis")
    with pytest.raises(DataError, match=r"also holds notes.txt, which"):
        prepare_spec(folder, spec_of(folder), overwrite=True)
    (folder / "corpus" / "notes.txt").unlink()
    prepare_spec(folder, spec_of(folder), overwrite=True)
    assert content(folder / "corpus") == before


def test_a_manifest_of_something_else_is_no_corpus(folder: Path) -> None:
    (folder / "site").mkdir()
    (folder / "site" / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(DataError, match=r"site: is not replaced, since it also holds manifest.json, which"):
        prepare_spec(folder, spec_of(folder, output="site"), overwrite=True)
    assert names(folder / "site") == ["manifest.json"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_output_inside_a_corpus(folder: Path, overwrite: bool) -> None:
    before = content(folder / "corpus")
    (folder / "link").symlink_to(folder / "corpus")
    for output in ("corpus/sub", "corpus/train/sub", "link/sub"):
        with pytest.raises(DataError, match=r"/sub: is inside the corpus \S+/corpus; choose an output outside"):
            prepare_spec(folder, spec_of(folder, output=output), overwrite=overwrite)
    assert content(folder / "corpus") == before
