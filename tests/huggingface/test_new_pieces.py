"""Pieces added to a vocabulary: SentencePiece uses them, and cuts everything else as before."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import sentencepiece
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from smoe_ds.errors import DataError
from smoe_ds.huggingface.new_pieces import NewPieces, new_pieces, read_pieces
from tests.helpers.prepared import sentence, translate

WANTED = ["▁matamata", "kaloka", "lokalo", "▁m", "ŋ", "▁ŋomi", "▁the▁"[:-1], "ﬁ"]
ENGLISH = [sentence(number) for number in range(0, 800, 7)]


def model_of(model_type: str) -> ModelProto:
    lines = [sentence(number) for number in range(400)]
    lines += [translate(line, language) for language in ("nso", "cat") for line in lines[:200]]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        model_type=model_type,
        hard_vocab_limit=False,
        vocab_size=220,
        minloglevel=2,
    )
    model = ModelProto()
    model.ParseFromString(written.getvalue())
    return model


def processor_of(model: ModelProto, new: NewPieces | None = None) -> sentencepiece.SentencePieceProcessor:
    changed = ModelProto()
    changed.CopyFrom(model)
    for piece, score in (new.scores if new else {}).items():
        changed.pieces.add(piece=piece, score=score, type=1)
    return sentencepiece.SentencePieceProcessor(model_proto=changed.SerializeToString())


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_what_is_added_is_used_and_nothing_else_changes(model_type: str) -> None:
    model = model_of(model_type)
    new = new_pieces(model, WANTED)
    before, after = processor_of(model), processor_of(model, new)
    there = {piece.piece for piece in model.pieces}
    assert new.never_met == ("ﬁ",)
    assert new.there_already == len([piece for piece in WANTED if piece in there])
    assert (new.on_the_way > 0) == (model_type == "bpe"), "BPE joins two at a time"
    for piece in set(WANTED) - {"ﬁ"}:
        text = piece.removeprefix("▁") if piece.startswith("▁") else f"ŋ{piece}"  # no old piece begins inside of it
        assert after.encode(text, out_type=str)[-1] == piece
    old = [piece.piece for piece in model.pieces]
    used = 0
    for line in [*ENGLISH, *(translate(line, "nso") for line in ENGLISH)]:
        cut = after.encode(line, out_type=str)
        spelt = [new.parts.get(piece, (piece,)) for piece in cut]
        assert [old[one] if isinstance(one, int) else one for row in spelt for one in row] == before.encode(
            line, out_type=str
        )
        used += sum(piece in new.parts for piece in cut)
    assert used > 20
    for piece, parts in new.parts.items():
        spelt = "".join(old[number] for number in parts)
        assert spelt == "".join(character for character in piece if character in there)
    assert new.parts["ŋ"] == ()
    assert 0 not in after.encode("ŋomi ŋ ŋka") and 0 in before.encode("ŋomi")


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_text_is_cut_as_sentencepiece_does(model_type: str) -> None:
    """What decides which pieces are on the way, and what a new one starts as."""
    from smoe_ds.huggingface.new_pieces import _Bpe, _Unigram

    model = model_of(model_type)
    kind = _Bpe if model_type == "bpe" else _Unigram
    for new in (None, new_pieces(model, WANTED)):
        processor = processor_of(model, new)
        cuts = ModelProto()
        cuts.ParseFromString(processor.serialized_model_proto())
        ours = kind(cuts)
        for line in [*ENGLISH[:40], *(translate(line, "nso") for line in ENGLISH[:40]), "Matamata kalokalokaloka ŋomi"]:
            for word in line.split():
                assert ours.cut(f"▁{word}") == processor.encode(word, out_type=str)


def test_files_of_pieces(tmp_path: Path) -> None:
    file = tmp_path / "pieces.vocab"
    file.write_text("<unk>\t0\n▁mata\t-3.5\n\nŋ\r\n<\n")
    assert read_pieces(file) == ["▁mata", "ŋ", "<"]
    model = model_of("bpe")
    (tmp_path / "my.model").write_bytes(model.SerializeToString())
    assert read_pieces(tmp_path / "my.model") == [piece.piece for piece in model.pieces][3:]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", "ŋ\nb\nŋ\n", "line 3: ŋ is on line 1 too; take one out"),
        ("a", "two words\n", "line 1: 'two words' is no piece; a piece lies within a word"),
        ("a", "b▁c\n", "line 1: 'b▁c' is no piece"),
        ("a", "\n<unk>\n", "names no pieces; expected one a line"),
        ("a.model", "ŋ\n", "is not a SentencePiece model; name text otherwise"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"{name}: {message}"):
        read_pieces(tmp_path / name)
    with pytest.raises(DataError, match="nowhere: cannot be read"):
        read_pieces(tmp_path / "nowhere")


def test_pieces_that_cannot_be_added() -> None:
    model = model_of("bpe")
    with pytest.raises(DataError, match="has all of these pieces already"):
        new_pieces(model, ["▁the", "a"])
    with pytest.raises(DataError, match="normalisation changes all of these pieces, such as 'ﬁ'"):
        new_pieces(model, ["ﬁ"])
    model.trainer_spec.model_type = 4
    with pytest.raises(DataError, match="cuts text into words or characters"):
        new_pieces(model, ["ŋ"])
