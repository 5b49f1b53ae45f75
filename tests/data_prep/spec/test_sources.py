"""Sources in a specification: each kind is known by what it cannot do without."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import TypeAdapter, ValidationError

from data_prep.readers import KINDS
from data_prep.spec.sources import Sources

EXAMPLES = {
    "text": {"src": "a", "tgt": "b"},
    "tsv": {"tsv": "a"},
    "tmx": {"tmx": "a"},
    "jsonl": {"jsonl": "a"},
    "mo": {"mo": "a"},
    "po": {"po": "a"},
    "mediawiki": {"mediawiki": {"src": "a", "tgt": "b"}},
}


def test_no_two_kinds_have_a_required_key_in_common() -> None:
    required = Counter(
        key for kind in KINDS.values() for key, field in kind.model_fields.items() if field.is_required()
    )
    assert set(required.values()) == {1}


@pytest.mark.parametrize("name", KINDS)
def test_a_mapping_becomes_the_kind_that_its_keys_name(name: str) -> None:
    (source,) = TypeAdapter(Sources).validate_python(EXAMPLES[name])
    assert type(source) is KINDS[name]
    assert TypeAdapter(Sources).validate_python([source]) == [source]


def test_what_is_no_source_is_told_how_all_kinds_are_written() -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(Sources).validate_python({"csv": "a"})
    assert error.value.errors()[0]["msg"] == (
        "a source is {src: FILE, tgt: FILE}, {tsv: FILE}, {tmx: FILE}, {jsonl: FILE}, {mo: FILE}, {po: FILE} or "
        "{mediawiki: {src: FILE, tgt: FILE}}"
    )
