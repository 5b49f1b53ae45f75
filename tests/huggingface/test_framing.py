"""Other ways to frame sentences: transformers' ``legacy_behaviour``, and that of SMaLL-100."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.cli.main import main
from smoe_ds.decode.load import load_translator
from smoe_ds.decode.translator import Translator
from tests.helpers.prepared import sentence

LINES = [sentence(number) for number in (3, 250, 611)]


def told(folder: Path, place: Path, **keys: Any) -> Path:
    """The folder with other keys in ``tokenizer_config.json``."""
    shutil.copytree(folder, place)
    path = place / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | keys), encoding="utf-8")
    return place


def imported(folder: Path, output: Path) -> Translator:
    assert main(["import", str(folder), "--output", str(output)]) == 0
    return load_translator(output, device="cpu")


def spelt(translator: Translator, rows: torch.Tensor) -> list[list[str]]:
    """Tokens of a batch without padding; codes of languages as theirs."""
    names = [spelling for spelling, _ in translator.tokenizer.vocabulary()]
    theirs = {"<2eng>": "eng_Latn", "<2cat>": "cat_Latn"}
    return [[theirs.get(names[index], names[index]) for index in row if index] for row in rows.tolist()]


def test_the_language_stands_behind_the_source(dense_folder: Path, tmp_path: Path) -> None:
    import transformers

    folder = told(dense_folder, tmp_path / "legacy", legacy_behaviour=True)
    ours = imported(folder, tmp_path / "ours")
    assert ours.data.source_language_token == "source_at_end"
    languages = ours.languages("eng", "cat")
    batch = ours._collate(ours.encoded(LINES), [()] * 3, languages)
    command = ["export", str(tmp_path / "ours"), "--output", str(tmp_path / "out"), "--format", "transformers"]
    assert main(command) == 0
    for source in (folder, tmp_path / "out"):
        for fast in (False, True):
            theirs = transformers.AutoTokenizer.from_pretrained(source, src_lang="eng_Latn", use_fast=fast)
            rows = theirs(LINES)["input_ids"]
            assert [theirs.convert_ids_to_tokens(row) for row in rows] == spelt(ours, batch.src)
            assert theirs.convert_ids_to_tokens(rows[0])[-2:] == ["</s>", "eng_Latn"]
    assert imported(tmp_path / "out", tmp_path / "back").data == ours.data
    answers = ours.translate(LINES, "cat", "eng")
    assert [answer.text for answer in answers] != [
        answer.text for answer in imported(dense_folder, tmp_path / "plain").translate(LINES, "cat", "eng")
    ]


@torch.inference_mode()
def test_the_target_language_stands_before_the_source(
    dense_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As SMaLL-100's own code does: its tokenizer is not in transformers, its model is M2M100's."""
    import transformers

    folder = told(dense_folder, tmp_path / "small100", tokenizer_class="SMALL100Tokenizer")
    ours = imported(folder, tmp_path / "ours")
    pieces = [ours.tokenizer.encode(line) for line in LINES]
    batch = ours._collate(pieces, [row[:4] for row in pieces], ours.languages(None, "cat"))
    assert [row[0] for row in spelt(ours, batch.src)] == ["cat_Latn"] * 3
    assert [row[0] for row in spelt(ours, batch.tgt_in)] == ["</s>"] * 3
    model: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer: Any = transformers.NllbTokenizer.from_pretrained(dense_folder)
    rows = [tokenizer.convert_tokens_to_ids(row) for row in spelt(ours, batch.src)]
    given = [tokenizer.convert_tokens_to_ids(row) for row in spelt(ours, batch.tgt_in)]
    known = [i for i, (spelling, _) in enumerate(ours.tokenizer.vocabulary()) if spelling.startswith("\u2581")]
    their_ids = tokenizer.convert_tokens_to_ids([ours.tokenizer.vocabulary()[i][0] for i in known])
    logits, _ = ours.model(batch.src, batch.tgt_in)
    for number, (row, start) in enumerate(zip(rows, given, strict=True)):
        theirs = model(input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([start])).logits[0]
        found = logits[number, : len(start), known]
        torch.testing.assert_close(found, theirs[:, their_ids], rtol=1e-5, atol=1e-5)
    assert all(answer.tokens for answer in ours.translate(LINES, "cat"))
    capsys.readouterr()
    command = ["export", str(tmp_path / "ours"), "--output", str(tmp_path / "out"), "--format", "transformers"]
    assert main(command) == 2
    assert "export a dense model with --format ctranslate2" in capsys.readouterr().err
