"""Codes of languages: as tokens that no text has in its words, and kept in the vocabulary."""

from __future__ import annotations

import pytest

from smoe_ds.errors import DataError
from smoe_ds.huggingface.language_codes import code_of, keep_codes, kept_codes, language_tokens, stem, token_of


@pytest.mark.parametrize(
    ("code", "token"),
    [("cat_Latn", "cat_Latn"), ("ca", "__ca__"), ("__ca__", "__ca__"), ("nso", "__nso__"), ("x_1_", "__x_1___")],
)
def test_a_code_and_its_token(code: str, token: str) -> None:
    assert token_of(code) == token
    assert code_of(token) == code.removeprefix("__").removesuffix("__")


@pytest.mark.parametrize("token", ["eng", "<mask>", "madeupword0000", "____", "eng_latn", "engl_Latn", "__a-b__"])
def test_other_tokens_are_no_languages(token: str) -> None:
    assert code_of(token) is None


def test_languages_get_tokens_of_their_own() -> None:
    assert language_tokens(("cat", "eng", "my_own"), {"cat": "cat_Latn"}) == {
        "cat": "cat_Latn",
        "eng": "__eng__",
        "my_own": "__my_own__",
    }
    with pytest.raises(DataError, match="cat and ca would both be __ca__"):
        language_tokens(("cat", "ca"), {"cat": "ca"})
    with pytest.raises(DataError, match="no language 'fra'"):
        language_tokens(("cat",), {"fra": "fra_Latn"})
    with pytest.raises(DataError, match="'a b' is not a code"):
        language_tokens(("cat",), {"cat": "a b"})


def test_a_name_without_its_script() -> None:
    assert [stem(code) for code in ("cat_Latn", "ca", "my_own")] == ["cat", "ca", "my_own"]


def test_a_vocabulary_keeps_its_codes() -> None:
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    model = ModelProto()
    assert kept_codes(model) == {}
    model.trainer_spec.accept_language.append("en")
    assert kept_codes(model) == {}
    keep_codes(model, {"cat": "cat_Latn", "ca": "ca"})
    again = ModelProto()
    again.ParseFromString(model.SerializeToString())
    assert kept_codes(again) == {"cat": "cat_Latn", "ca": "ca"}
