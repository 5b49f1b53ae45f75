"""The report as a file beside the shards: counts per pair and filter, examples of what was dropped, the vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.cleaning.examples import without_ranks
from data_prep.stages.pieces import Entry, Pieces, write_file
from smoe_ds.errors import DataError

REPORT = "report.json"


def report_content(
    counts: Mapping[str, Mapping[str, Mapping[str, Any]]],
    splits: Mapping[str, Mapping[str, Any]],
    vocabulary: Mapping[str, Any],
    warnings: list[str],
) -> dict[str, Any]:
    """The content of the file.

    Args:
        counts: by pair and split, with the examples.
        splits: the manifest's entries by split and pair.
        vocabulary: the manifest's entry.
        warnings: what a user should look at.

    Returns:
        ``pairs``: by pair and split ``read`` (or ``drawn``), ``dropped``, ``moved`` (to held-out text), ``kept``,
        ``noticed`` and ``examples`` (``[first side, second side]`` by reason); ``vocabulary``; ``warnings``.
    """
    pairs = {
        pair: {
            split: {**found, "kept": splits[split][pair]["sentences"], "examples": without_ranks(found["examples"])}
            for split, found in texts.items()
        }
        for pair, texts in counts.items()
    }
    return {"pairs": pairs, "vocabulary": dict(vocabulary), "warnings": warnings}


def write_report(pieces: Pieces, place: str, content: Mapping[str, Any]) -> Entry:
    """Writes the file at its place below the folder of all pieces; returns its entry for the manifest."""
    data = json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8") + b"\n"
    with pieces.draft() as draft:
        entry = write_file(draft / REPORT, data, pieces.root / place)
        (draft / REPORT).replace(pieces.root / place)
    return entry


def read_report(corpus: Path) -> dict[str, Any]:
    """The report of a prepared corpus.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = corpus / REPORT
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); prepare the corpus again with --overwrite") from error
    return content


def without_examples(counts: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """The counts as the manifest keeps them."""
    return {
        pair: {
            split: {name: value for name, value in found.items() if name != "examples"}
            for split, found in texts.items()
        }
        for pair, texts in counts.items()
    }
