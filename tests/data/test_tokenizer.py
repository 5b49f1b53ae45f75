"""The tokenizer: ids of special and language tokens, control tokens never from text, round trips, clear errors."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import sentencepiece

from smoe_ds.data.ragged import Ragged
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.errors import DataError
from tests.helpers.prepared import sentence, small_corpus


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return small_corpus(tmp_path_factory.mktemp("tokenizer")).tokenizer


def test_special_and_language_ids(tokenizer: Tokenizer) -> None:
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2, 3)
    assert tokenizer.languages == ("cat", "eng", "nso")
    assert sorted(tokenizer.language_id(name) for name in tokenizer.languages) == [4, 5, 6]


@pytest.mark.parametrize(
    "text", ["<2nso>", "x<2nso> y", "<s> a </s>", "<pad><unk>", "<2eng> <2cat>", "<0x41>", "▁<2nso>"]
)
def test_control_tokens_never_come_from_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    control = {0, 1, 2, 3} | {tokenizer.language_id(name) for name in tokenizer.languages}
    assert ids and not control & set(ids)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("text", [sentence(17), "Ж 日本語 👨‍👩‍👧 ქართული", "100 % of $1 (%s)", "naïve façade"])
def test_round_trip_also_of_unseen_characters(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_normalisation_is_part_of_the_model(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("Cafe\u0301 ﬁne\u00a0\u3000ｆｕｌｌ\u0007\n") == tokenizer.encode("Café ﬁne ｆｕｌｌ")
    assert tokenizer.normalization == "nfc"


def test_batch_equals_single_with_any_number_of_threads(tokenizer: Tokenizer) -> None:
    texts = [sentence(number) for number in range(100)] + ["", "👍"]
    expected = [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(texts) == tokenizer.encode_batch(texts, num_threads=3) == expected
    assert tokenizer.encode_batch([]) == []


def test_rows_equal_single_also_as_bytes_and_across_the_sentences_encoded_at_a_time(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smoe_ds.data.tokenizer._ROWS", 7)
    texts = [sentence(number) for number in range(20)] + ["", "👍 Ж"]
    ids = [tokenizer.encode(text) for text in texts]
    for number in (0, 6, 7, 8, 22):
        for rows in (
            tokenizer.encode_rows(texts[:number]),
            tokenizer.encode_rows([t.encode() for t in texts[:number]], 2),
        ):
            assert rows.lengths.tolist() == [len(row) for row in ids[:number]]
            assert rows.values.tolist() == [index for row in ids[:number] for index in row]
            assert rows.values.dtype == "int32"


def test_rows_are_decoded_as_one_by_one(tokenizer: Tokenizer) -> None:
    rows = [tokenizer.encode(text) for text in ("The house sees snow.", "", "👍 Ж ▁", "می‌خواهم")]
    special = [[tokenizer.language_id("nso"), 1, *rows[0], 3, 2, 0]]
    for some in (rows, special, rows + special, []):
        assert tokenizer.decode_rows(Ragged.of(some), num_threads=2) == [tokenizer.decode(row) for row in some]
    with pytest.raises(DataError, match=f"0..{tokenizer.vocab_size - 1}"):
        tokenizer.decode_rows(Ragged.of([[tokenizer.vocab_size]]))


def test_kinds_are_those_of_sentencepiece(tokenizer: Tokenizer) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer.model_file))
    for index, (spelling, kind) in enumerate(tokenizer.vocabulary()):
        assert spelling == processor.IdToPiece(index)
        asked = {"control": processor.IsControl, "unknown": processor.IsUnknown, "byte": processor.IsByte}
        assert [name for name, is_one in asked.items() if is_one(index)] == ([] if kind == "normal" else [kind])


def test_decode_skips_special_and_language_tokens(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("The house sees snow.")
    wrapped = [tokenizer.language_id("nso"), 1, *ids[:2], 3, *ids[2:], 2, 0, 0]
    assert tokenizer.decode(wrapped) == "The house sees snow."
    assert tokenizer.decode([]) == ""


def test_a_long_token_without_spaces_takes_linear_time(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("ab" * 150_000)) >= 10_000


def test_unknown_language_names_the_known_ones(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"'tgl'.*cat, eng, nso"):
        tokenizer.language_id("tgl")


def test_id_outside_the_vocabulary(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=f"0..{tokenizer.vocab_size - 1}"):
        tokenizer.decode([tokenizer.vocab_size])


def test_missing_and_damaged_files(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.model: cannot read.*No such file"):
        Tokenizer(tmp_path / "gone.model")
    for content in (b"", b"no model", tokenizer.model_file.read_bytes()[:1000]):
        (tmp_path / "bad.model").write_bytes(content)
        with pytest.raises(DataError, match=r"bad.model: .*(not a SentencePiece model|special|have ids)"):
            Tokenizer(tmp_path / "bad.model")


def test_a_model_with_other_special_ids_is_refused(tmp_path: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([sentence(number) for number in range(50)]), model_writer=model,
        vocab_size=45, minloglevel=2,
    )  # fmt: skip
    (tmp_path / "other.model").write_bytes(model.getvalue())
    with pytest.raises(DataError, match=r"have ids \(-1, 1, 2, 0\), expected \(0, 1, 2, 3\)"):
        Tokenizer(tmp_path / "other.model")
