"""Their vocabulary as a tokenizer of ours: pieces, scores, rows, languages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import sentencepiece

from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.errors import CheckpointError, DataError
from smoe_ds.huggingface.tokenizer_model import Added, Imported, imported_tokenizer
from smoe_ds.huggingface.vocabulary import language_names, read_table, read_vocabulary
from tests.helpers.prepared import sentence, translate
from tests.helpers.transformers_folder import CODES, sentencepiece_bytes

TEXTS = [sentence(5), translate(sentence(40), "rus"), "Ça va? 你好 \t x 1 < 2"]
NAMES = dict(zip(CODES, ("cat", "eng", "nso", "rus", "zho_Hans", "zho_Hant"), strict=True))


def tokenizer_of(imported: Imported, place: Path) -> Tokenizer:
    (place / "tokenizer.model").write_bytes(imported.model)
    return Tokenizer(place / "tokenizer.model")


def test_pieces_scores_and_rows_are_theirs(dense_folder: Path, tmp_path: Path) -> None:
    import transformers

    theirs = transformers.NllbTokenizer.from_pretrained(dense_folder)
    vocabulary = read_vocabulary(dense_folder)
    imported = imported_tokenizer(vocabulary, len(theirs) + 3, NAMES)
    ours = tokenizer_of(imported, tmp_path)
    assert ours.languages == tuple(NAMES.values())
    assert sorted(row for (row,) in imported.rows) == list(range(len(theirs) + 3)), "no row lost, none twice"
    for text in TEXTS:
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert [imported.rows[index][0] for index in ours.encode(text)] == expected
    before = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_bytes())
    after = sentencepiece.SentencePieceProcessor(model_proto=imported.model)
    scores = {before.IdToPiece(i): before.GetScore(i) for i in range(3, before.get_piece_size())}
    assert {
        after.IdToPiece(i): after.GetScore(i) for i in range(4, len(imported.rows)) if not after.IsControl(i)
    } == scores
    for text in TEXTS:
        assert after.encode(text, out_type=str) == before.encode(text, out_type=str)


def test_m2m100_numbers_its_pieces_in_a_file(tmp_path: Path) -> None:
    import transformers

    model = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_bytes())
    pieces = [model.IdToPiece(i) for i in range(3, model.get_piece_size())]
    known = [piece for piece in reversed(pieces) if piece != "▁the"]
    numbers = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "unreachable", *known])}
    (tmp_path / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    (tmp_path / "sentencepiece.bpe.model").write_bytes(sentencepiece_bytes())
    theirs = transformers.M2M100Tokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "sentencepiece.bpe.model"))
    theirs.save_pretrained(tmp_path)
    vocabulary = read_vocabulary(tmp_path)
    assert vocabulary.languages["ca"] == theirs.get_lang_id("ca")
    assert len(vocabulary.languages) == 100
    names = language_names(vocabulary.languages, {"ca": "cat"}, "table")
    imported = imported_tokenizer(vocabulary, len(numbers) + 100 + 8, names)
    ours = tokenizer_of(imported, tmp_path)
    assert imported.unseen == 1
    for text in TEXTS[:2]:
        rows = [imported.rows[index][0] for index in ours.encode(text)]
        assert rows == theirs(text, add_special_tokens=False)["input_ids"]
    assert imported.rows[ours.language_id("cat")] == (theirs.get_lang_id("ca"),)
    reserved = [i for i, (spelling, _) in enumerate(ours.vocabulary()) if spelling.startswith("<reserved_")]
    assert [imported.rows[i][0] for i in reserved] == [4, *range(len(numbers) + 100, len(numbers) + 108)]


def test_languages_without_numbers_follow_the_pieces(dense_folder: Path, tmp_path: Path) -> None:
    shutil.copy(dense_folder / "sentencepiece.bpe.model", tmp_path)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": list(CODES)}))
    assert read_vocabulary(tmp_path).languages == {code: 321 + i for i, code in enumerate(CODES)}
    (tmp_path / "special_tokens_map.json").unlink()
    with pytest.raises(CheckpointError, match="no file says which tokens are languages"):
        read_vocabulary(tmp_path)


def test_names_of_languages() -> None:
    codes = dict.fromkeys([*CODES, "ca"], 0)
    del codes["cat_Latn"]
    assert language_names(codes, {"ca": "cat"}, "t") == {code: NAMES.get(code, "cat") for code in codes}
    with pytest.raises(DataError, match="t: the vocabulary has no language 'fra_Latn'; its codes are eng_Latn"):
        language_names(codes, {"fra_Latn": "fra"}, "t")
    with pytest.raises(DataError, match="eng_Latn and ca would both be eng"):
        language_names(codes, {"ca": "eng"}, "t")


def test_a_table_of_names(tmp_path: Path) -> None:
    file = tmp_path / "table"
    file.write_text("# ours\ncat_Latn  cat\n\nzho_Hans\tzho # simplified\n")
    assert read_table(file) == {"cat_Latn": "cat", "zho_Hans": "zho"}
    file.write_text("cat_Latn cat\nzho_Hans zh-CN\n")
    with pytest.raises(DataError, match="line 2: expected their code and a name"):
        read_table(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "nowhere")


def test_new_languages_start_as_means(dense_folder: Path) -> None:
    vocabulary = read_vocabulary(dense_folder)
    imported = imported_tokenizer(vocabulary, 331, NAMES, Added({"lug": ["nso", "rus"], "run": []}))
    rows = vocabulary.languages
    assert imported.rows[10] == (rows["nso_Latn"], rows["rus_Cyrl"])
    assert set(imported.rows[11]) == set(rows.values())
    with pytest.raises(DataError, match="--add-language nso: the vocabulary has it already"):
        imported_tokenizer(vocabulary, 331, NAMES, Added({"nso": []}))
    with pytest.raises(DataError, match="related language 'swh' is not there; choose of cat, eng"):
        imported_tokenizer(vocabulary, 331, NAMES, Added({"lug": ["swh"]}))
    with pytest.raises(DataError, match="has a token 327, but the embedding 300 rows"):
        imported_tokenizer(vocabulary, 300, NAMES)


def test_new_pieces_start_as_means(dense_folder: Path, tmp_path: Path) -> None:
    vocabulary = read_vocabulary(dense_folder)
    of_pieces = {tuple(sorted(set(vocabulary.piece_rows) - {0, 1, 2, 3}))}
    names = {piece.piece: row for piece, row in zip(vocabulary.model.pieces, vocabulary.piece_rows, strict=True)}
    plain = imported_tokenizer(vocabulary, 331, NAMES)
    for from_parts in (True, False):
        imported = imported_tokenizer(vocabulary, 331, NAMES, Added(pieces=["▁theka", "ŋ"], from_parts=from_parts))
        assert imported.rows[: len(plain.rows)] == plain.rows
        ours = tokenizer_of(imported, tmp_path)
        assert ours.vocab_size == len(imported.rows)
        spelt = ours.encode("theka ŋ")
        assert [ours.vocabulary()[index][0] for index in spelt] == ["▁theka", "▁", "ŋ"]
        expected = {(names["▁the"], *(names[one] for one in ("ka",)))} if from_parts else of_pieces
        assert {imported.rows[spelt[0]]} == expected
        assert {tuple(sorted(imported.rows[spelt[2]]))} == of_pieces
