"""How much of the validation text is read."""

from __future__ import annotations

from smoe_ds.data.validation_batches import ValidationBatches
from smoe_ds.train.coverage import Coverage
from tests.helpers.sentences import MemorySentences
from tests.helpers.streams import LANGUAGE_IDS, data_config


def of_lengths(direction: str, lengths: list[int], max_batches: int | None = None) -> ValidationBatches:
    sentences = MemorySentences(direction, [[7] * length for length in lengths], [[7]] * len(lengths))
    return ValidationBatches(
        sentences, LANGUAGE_IDS, data_config(), max_positions=64, rank=0, world_size=1, max_batches=max_batches
    )


def test_pairs_are_counted_over_directions() -> None:
    """As a loop over the batches counts them."""
    batches = {
        "eng-nso": of_lengths("eng-nso", [5] * 90 + [70] * 10),
        "nso-eng": of_lengths("nso-eng", [5] * 10 + [70] * 30),
        "eng-cat": of_lengths("eng-cat", [5] * 400, max_batches=2),
    }
    found = Coverage.of(batches)
    read = sum(len(batch.directions) for one in batches.values() for batch in one)
    assert (found.read, found.too_long, found.total) == (read, 40, 540)
    assert 100 < read < 500, "the third direction is read in part"
    assert (found.worst, found.worst_share) == ("nso-eng", 0.75)
    assert found.text == f"{read} of 540 pairs, 40 too long"
    assert "leaves out 40 of 540 sentence pairs" in found.warning and found.warning.endswith("in nso-eng (75%)")


def test_nothing_is_said_where_everything_is_read() -> None:
    whole = Coverage.of({"eng-nso": of_lengths("eng-nso", [5] * 20)})
    assert (whole.text, whole.warning, whole.read) == ("", "", 20)
    assert (Coverage.of({}).text, Coverage.of({}).warning) == ("", "")
    sample = Coverage.of({"eng-cat": of_lengths("eng-cat", [5] * 400, max_batches=2)})
    assert sample.text.endswith("of 400 pairs") and sample.warning == ""
