"""Files that cannot be read, and vocabularies that do not suit, are refused before anything is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from data_prep.check_files import check_files
from data_prep.spec.sections import Spec
from smoe_ds.errors import DataError
from tests.helpers.prepared import sentence, small_corpus
from tests.helpers.unprivileged import open_folder, unprivileged


def spec_of(*files: tuple[str, str], **sections: Any) -> Spec:
    """A specification of a pair for each two files."""
    codes = ["nso", "cat", "msa", "tgl", "fur", "isl", "slv", "ssw"]
    pairs = [
        {"pair": f"eng-{code}", "train": {"src": src, "tgt": tgt}}
        for code, (src, tgt) in zip(codes, files, strict=False)
    ]
    return Spec.model_validate({"output": "x", "pairs": pairs} | sections)


def test_missing_files_are_named_together(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(DataError) as caught:
        check_files(spec_of(("a", "b"), sentencepiece={"model": "t.model"}), tmp_path)
    assert str(caught.value) == (
        f"no such file: {tmp_path}/b (eng-nso), {tmp_path}/t.model (sentencepiece.model); "
        f"relative paths start from {tmp_path}"
    )
    with pytest.raises(DataError, match=r"/f9 \(eng-fur\) and 2 more; relative paths"):
        check_files(spec_of(*((f"f{number}", f"f{number + 1}") for number in range(0, 12, 2))), tmp_path)


def test_what_is_no_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError) as caught:
        check_files(spec_of(("folder", "file"), ("pipe", "/dev/null"), ("file/x", "file")), tmp_path)
    assert str(caught.value).splitlines() == [
        f"a folder, not a file: {tmp_path}/folder (eng-nso); name the file in it",
        f"not a file but a pipe or a device: {tmp_path}/pipe (eng-cat), /dev/null (eng-cat); "
        "text is read more than once: write it to a file",
        f"no such file: {tmp_path}/file/x (eng-msa); relative paths start from {tmp_path}",
    ]


def test_unreadable_files_are_named_with_pair_and_remedy() -> None:
    message = r"cannot be read \(Permission denied\): \S+/b \(eng-nso\); fix"
    with open_folder() as folder:
        for name in "ab":
            (folder / name).touch()
        (folder / "b").chmod(0)
        with unprivileged(), pytest.raises(DataError, match=message):
            check_files(spec_of(("a", "b")), folder)


def plain_model(folder: Path) -> Path:
    """A model as SentencePiece writes it by itself: no padding, no languages."""
    import sentencepiece

    sentences = iter([sentence(number) for number in range(200)])
    with (folder / "plain.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences, model_writer=file, vocab_size=50, num_threads=1, minloglevel=2
        )
    return folder / "plain.model"


def test_a_given_vocabulary_is_looked_at_first(tmp_path: Path) -> None:
    model = small_corpus(tmp_path, languages=("nso", "cat")).tokenizer.model_file
    for name in "ab":
        (tmp_path / name).touch()
    check_files(spec_of(("a", "b"), ("a", "b"), sentencepiece={"model": str(model)}), tmp_path)
    with pytest.raises(DataError, match=r"no token for language 'msa', 'tgl'; the vocabulary knows: cat, eng, nso; n"):
        check_files(spec_of(*[("a", "b")] * 4, sentencepiece={"model": str(model)}), tmp_path)
    with pytest.raises(
        DataError, match=r"plain.model: has no piece for pad: .*ids \(-1, 1, 2, 0\), expected \(0, 1, 2"
    ):
        check_files(spec_of(("a", "b"), sentencepiece={"model": str(plain_model(tmp_path))}), tmp_path)
    with pytest.raises(DataError, match=r"a: is not a SentencePiece model"):
        check_files(spec_of(("a", "b"), sentencepiece={"model": "a"}), tmp_path)
