"""Fifth stage, once the vocabulary is there: all pieces are encoded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from data_prep.cleaning.examples import merged
from data_prep.cleaning.spool import Spool
from data_prep.held_out.splits import Counts, Part, Parts
from data_prep.stages.counts import add_counts
from data_prep.stages.encode_piece import Encoding, encode_piece
from data_prep.stages.run import Run
from data_prep.stages.write_shard import CORPUS, Encoded
from data_prep.vocabulary.round_trip import figures, sampled


def encode_all(
    run: Run, parts: Parts, counts: Counts, made_from: Mapping[tuple[str, str], str], model_sha256: str
) -> tuple[dict[tuple[str, str], list[Encoded]], dict[str, dict[str, Any]]]:
    """Encodes all parts, and completes their counts.

    Returns:
        the encoded pieces of each part, in order; and by language the `figures` of what comes back from its ids.
    """
    encodings = {}
    for spool, group in _by_spool(parts):
        text_made_from = made_from["-".join(spool.languages), spool.split]
        model = run.pieces.root / CORPUS / "tokenizer.model"
        totals = {split: int(part.mask.sum()) for split, part in group.items()}
        for piece in range(len(spool.sizes)):
            start, stop = spool.bounds(piece)
            masks = {split: part.mask[start:stop] for split, part in group.items() if part.mask[start:stop].any()}
            if masks:
                limit = run.spec.clean.max_pieces
                looks = [mask & sampled(start, stop, totals[split], run.spec.seed) for split, mask in masks.items()]
                compared = np.logical_or.reduce(looks)
                encoding = Encoding.of(spool, piece, masks, compared, limit, model, model_sha256, text_made_from)
                encodings[encoding.name] = encoding
    for name, encoding in sorted(encodings.items(), key=lambda item: -_num_lines(item[1])):  # large ones first
        run.workers.submit(("encoding", name), encode_piece, run.pieces, encoding, run.num_threads)
    results: dict[str, dict[str, Any]] = {}
    for (_, name), result in run.workers.results():
        results[name] = result
        run.progress.tick(f"{len(results)} of {len(encodings)} pieces encoded")
    encoded: dict[tuple[str, str], list[Encoded]] = defaultdict(list)
    for name, encoding in encodings.items():
        pair = "-".join(encoding.spool.languages)
        for split, result in results[name].items():
            encoded[pair, split].append(Encoded(name, encoding.made_from, split, tuple(result["lengths"])))
            if result["too_many_pieces"]:
                count = counts[pair, split]
                add_counts(count, {"dropped": {"too_many_pieces": result["too_many_pieces"]}})
                count["examples"] = merged([count["examples"], result["examples"]])
    round_trips = [found["round_trip"] for result in results.values() for found in result.values()]
    return encoded, figures(round_trips, run.spec.languages)


def _num_lines(encoding: Encoding) -> int:
    return sum(int(mask.sum()) for mask in encoding.masks.values())


def _by_spool(parts: Parts) -> Iterator[tuple[Spool, dict[str, Part]]]:
    groups: dict[Spool, dict[str, Part]] = defaultdict(dict)
    for (_, split), part in parts.items():
        groups[part.spool][split] = part
    yield from groups.items()
