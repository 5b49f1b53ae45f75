"""The report as text: what was read, dropped, noticed and kept, how the vocabulary suits each language; warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from data_prep.cleaning.clean import DROP_REASONS, NOTICES
from smoe_ds.text_line import spelled_out

_SHARES = {
    "copies": 0.5,
    "duplicates": 0.5,
    "other_script": 0.1,
    "swapped": 0.05,
    "control_characters": 0.1,
    "entities": 0.01,
}
_DROPPED_SHARES = {
    "duplicate": 0.5,
    "near_duplicate": 0.5,
    "held_out": 0.2,
    "invalid_utf8": 0.01,
    "forbidden_character": 0.01,
    "unknown_entity": 0.01,
    "too_many_pieces": 0.05,
    "wrong_script": 0.1,
    "copy": 0.5,
}
_MIN_COVERAGE = 0.99
_SHOWN_LANGUAGES = 5
_HEADINGS = {"held_out": "same as valid/test"}
"""What stands above the counts of a reason, where its name alone does not say it."""


def warnings_of(report: Mapping[str, Any], vocabulary: Mapping[str, Any]) -> Iterator[str]:
    """What a user should look at: unusual shares, held-out sets smaller than asked for, a vocabulary that fits badly.

    Args:
        report: counts by pair and split.
        vocabulary: ``requested`` and ``pieces``, ``given``, ``byte_fallback``, ``normalization``, and ``languages``
            with the figures of `coverage` and of the round trip.
    """
    for pair, splits in report.items():
        for split, counts in splits.items():
            yield from _unusual_shares(f"{pair} {split}", counts)
            yield from (f"{pair} {split}: {place}" for place in counts.get("places", []))
            if "drawn" in counts and counts["drawn"] < counts["asked"]:
                yield (
                    f"{pair} {split}: {counts['drawn']} of {counts['asked']} sentences drawn; "
                    "held_out.max_fraction allows no more"
                )
    if vocabulary["pieces"] < vocabulary["requested"]:
        yield f"vocabulary: {vocabulary['pieces']} of {vocabulary['requested']} pieces; the text has no more"
    for language, figures in vocabulary.get("languages", {}).items():
        share = figures["character_coverage"]
        if share is not None and share < _MIN_COVERAGE:
            yield f"vocabulary: {1 - share:.1%} of the characters of {language} {_without_piece(vocabulary)}"
    yield from _changed(vocabulary)


def _without_piece(vocabulary: Mapping[str, Any]) -> str:
    """What becomes of characters without a piece of their own, and the remedy."""
    fate = "are spelled in bytes" if vocabulary["byte_fallback"] else "are lost, since the vocabulary has no bytes"
    if vocabulary["given"] is not None:
        more = "" if vocabulary["byte_fallback"] else ", or add them to it with smoe-ds import --add-pieces"
        return f"{fate}; name another sentencepiece.model, or none to train one{more}"
    return f"{fate}; raise sentencepiece.character_coverage, vocab_size or temperature"


def _changed(vocabulary: Mapping[str, Any]) -> Iterator[str]:
    """The languages that the vocabulary re-spells, those with the largest share first."""
    shares = {language: figures["changed"] / figures["compared"]
              for language, figures in vocabulary.get("languages", {}).items() if figures["changed"]}  # fmt: skip
    if not shares:
        return
    order = sorted(shares, key=lambda language: -shares[language])
    shown = ", ".join(f"{language} {shares[language]:.2%}" for language in order[:_SHOWN_LANGUAGES])
    more = f" and {len(order) - _SHOWN_LANGUAGES} more" if len(order) > _SHOWN_LANGUAGES else ""
    before, after = vocabulary["languages"][order[0]]["changed_examples"][0]
    yield (
        f"vocabulary: changes sentences, of {shown}{more}, e.g. “{before}” into “{after}”, and no translation can hold "
        f"what it changes; its normalization is {vocabulary['normalization']}, nfc keeps all that a reader sees"
    )


def _unusual_shares(where: str, counts: Mapping[str, Any]) -> Iterator[str]:
    read = counts.get("read", counts.get("drawn", 0))
    kept = read - sum(counts["dropped"].values())
    for name, limit in _SHARES.items():
        number = min(counts["noticed"].get(name, 0), kept)  # some of these may have been dropped since
        if kept and number > limit * kept:
            yield f"{where}: {name} {number / kept:.0%} ({number:,} of {kept:,} pairs): {NOTICES[name]}"
    for name, limit in _DROPPED_SHARES.items():
        number = counts["dropped"].get(name, 0)
        if read and number > limit * read:
            yield f"{where}: dropped as {name} {number / read:.0%} ({number:,} of {read:,} pairs): {DROP_REASONS[name]}"


def report_rows(manifest: Mapping[str, Any]) -> list[list[str]]:
    """The counts as a table with a header: a row per pair and split, a column per reason that occurred."""
    report = manifest["report"]
    rows = [(pair, split, counts) for pair, splits in report.items() for split, counts in splits.items()]
    reasons = [name for name in DROP_REASONS if any(counts["dropped"].get(name) for *_, counts in rows)]
    headings = [_HEADINGS.get(name, name) for name in reasons]
    table = [["pair", "text", "read", *headings, "moved to valid/test", "kept", "src tokens", "tgt tokens"]]
    for pair, split, counts in rows:
        entry = manifest["splits"][split][pair]
        numbers = [counts["dropped"].get(name, 0) for name in reasons]
        sides = [entry["tokens"][language] for language in pair.split("-")]
        read = "drawn" if "drawn" in counts else f"{counts['read']:,}"
        moved = counts.get("moved", 0)
        table.append([pair, split, read, *(f"{n:,}" for n in (*numbers, moved, entry["sentences"], *sides))])
    return table


def vocabulary_rows(vocabulary: Mapping[str, Any]) -> list[list[str]]:
    """How the vocabulary suits each language, as a table with a header."""
    table = [["language", "text", "chars/token", "tokens/sentence", "chars covered", "tokens covered", "pieces used",
              "come back"]]  # fmt: skip
    for language, figures in vocabulary.get("languages", {}).items():
        numbers = [
            "-" if figures[name] is None else form.format(figures[name])
            for name, form in (
                ("characters_per_token", "{:.2f}"),
                ("tokens_per_sentence", "{:.1f}"),
                ("character_coverage", "{:.3%}"),
                ("token_coverage", "{:.3%}"),
                ("vocabulary_used", "{:.1%}"),
            )
        ]
        table.append([language, figures["text"], *numbers, _come_back(figures)])
    return table


def _come_back(figures: Mapping[str, Any]) -> str:
    """Share of the sentences that the vocabulary gives back as they are; never rounded up to all of them."""
    compared, changed = figures.get("compared", 0), figures.get("changed", 0)  # earlier corpora have neither
    if not compared:
        return "-"
    return f"{10_000 * (compared - changed) // compared / 100:.2f}%"


def format_report(manifest: Mapping[str, Any]) -> str:
    """The report as text."""
    noticed = [
        f"{pair} {split}: {NOTICES[name]}: {number:,}"
        for pair, splits in manifest["report"].items()
        for split, counts in splits.items()
        for name, number in counts["noticed"].items()
    ]
    tables = ["\n".join(_aligned(rows)) for rows in (report_rows(manifest), vocabulary_rows(manifest["vocabulary"]))]
    rule = f"normalization of the vocabulary: {manifest['vocabulary'].get('normalization') or 'not recorded'}"
    warnings = [f"warning: {spelled_out(text)}" for text in manifest["warnings"]]
    return "\n".join([tables[0], *noticed, "", tables[1], rule, *_lost(manifest["vocabulary"]), *warnings])


def _lost(vocabulary: Mapping[str, Any]) -> Iterator[str]:
    """A line for each language that loses characters, with the most frequent."""
    for language, figures in vocabulary.get("languages", {}).items():
        if lost := figures.get("lost", 0):  # earlier corpora do not have it
            named = figures["lost_characters"]
            shown = [f"{spelled_out(one['character'])} ({one['code_point']}) {one['count']:,}" for one in named]
            if others := lost - sum(one["count"] for one in named):
                shown.append(f"others {others:,}")
            where = f"{lost:,} in the {figures['compared']:,} sentences looked at"
            yield f"characters of {language} that the vocabulary loses, {where}: {', '.join(shown)}"


def format_examples(report: Mapping[str, Any]) -> str:
    """Examples of dropped pairs, and of sentences that the vocabulary re-spells, as text.

    Args:
        report: content of the report file.
    """
    lines = []
    for pair, splits in report["pairs"].items():
        for split, counts in splits.items():
            for reason in filter(counts["examples"].get, DROP_REASONS):
                found = counts["examples"][reason]
                number = counts["dropped"][reason]
                lines.append(f"{pair} {split}: {reason}: {number:,} dropped ({DROP_REASONS[reason]}), e.g.")
                lines += [f"  {src}  |||  {tgt}" for src, tgt in found]
    for language, figures in report["vocabulary"]["languages"].items():
        if figures.get("changed"):
            of = f"{figures['changed']:,} of {figures['compared']:,}"
            lines.append(f"{language}: {of} sentences do not come back from the vocabulary as they are, e.g.")
            lines += [f"  {before}  |||  {after}" for before, after in figures.get("changed_examples", [])]
    return "\n".join(lines)


def _aligned(table: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        cells = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
