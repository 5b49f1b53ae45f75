"""Makes a list of pairs that is known by name into the pairs of a specification, with the files that are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.spec.layouts import PairFiles, nllb_files, opus100_files, opus100_release
from data_prep.spec.pair_lists import ListedCorpus, ListedPair, PairList, listed_corpus
from smoe_ds.config.nearest import nearest
from smoe_ds.config.problems import MOST_PROBLEMS, shortened
from smoe_ds.data.splits import SPLITS
from smoe_ds.errors import ConfigError, DataError


def expand(settings: PairList, content: dict[str, Any], base: Path) -> dict[str, Any]:
    """The specification with the list's pairs written out.

    Args:
        settings: its section ``pair_list``.
        content: the whole of it, as read.
        base: folder that its relative paths are relative to.

    Returns:
        a copy with ``pairs`` completed, ``left_out``, and the list's pivot where it names none.

    Raises:
        ConfigError: a language that the list does not have.
        DataError: files are missing, and ``missing`` is ``refuse``, or nothing is left: the message names each of
            them and where to get it.
    """
    listed = listed_corpus(settings.name)
    try:
        return _expanded(settings, listed, content, base)
    except OSError as error:
        where = f"pair_list: {shortened(str(error.filename), 200)}"
        raise DataError(f"{where}: cannot be read: {error.strerror}; correct pair_list.root") from error


def _expanded(settings: PairList, listed: ListedCorpus, content: dict[str, Any], base: Path) -> dict[str, Any]:
    files = {name: _files(settings, listed, name, base) for name in _chosen(settings, listed)}
    incomplete = {name: found for name, found in files.items() if found.missing}
    if incomplete and (settings.missing == "refuse" or len(incomplete) == len(files)):
        raise DataError(_missing(settings, listed, incomplete, base))
    pairs = [_pair(listed, name, found) for name, found in files.items() if name not in incomplete]
    left_out = [f"{name}: lacks {_shown([file for file, _ in found.missing])}" for name, found in incomplete.items()]
    return {
        **content,
        "pivot": content.get("pivot", listed.pivot),
        "pairs": [*content.get("pairs", []), *pairs],
        "left_out": [*left_out, *_unlisted(settings, listed, base), *_unread(listed, files)],
    }


def _chosen(settings: PairList, listed: ListedCorpus) -> list[str]:
    """Names of the pairs to prepare."""
    only = set(listed.languages if settings.only is None else settings.only)
    problems = []
    for language in sorted(only - set(listed.languages)):
        language = shortened(language, 100)
        near = nearest(language, listed.languages)
        hint = f"did you mean {near}?" if near else f"it has {', '.join(listed.languages)}"
        problems.append(f"pair_list.only: {settings.name} has no language {language!r}; {hint}")
    if problems:
        more = [f"and {len(problems) - MOST_PROBLEMS:,} more problems"] if len(problems) > MOST_PROBLEMS else []
        raise ConfigError([*problems[:MOST_PROBLEMS], *more])
    only.add(listed.pivot)
    chosen = [
        name
        for name, pair in listed.pairs.items()
        if only.issuperset(name.split("-"))
        and (settings.zero_shot or pair.train is not None)
        and not (settings.scored_only and pair.test is None)
    ]
    if not chosen:
        raise ConfigError(f"pair_list.only: no pair of {settings.name} is left; name a language besides {listed.pivot}")
    return chosen


def _files(settings: PairList, listed: ListedCorpus, name: str, base: Path) -> PairFiles:
    root = Path(settings.root)
    if listed.layout == "opus100":
        return opus100_files(listed, name, base, root)
    flores = root / "flores200_dataset" if settings.flores is None else Path(settings.flores)
    return nllb_files(listed, name, base, root, flores)


def _pair(listed: ListedCorpus, name: str, files: PairFiles) -> dict[str, Any]:
    """The pair as a specification has it; where the list has no validation or test text, none is drawn either."""
    entry: ListedPair = listed.pairs[name]
    return {
        "pair": name,
        "group": entry.group,
        **{split: files.sources.get(split, []) for split in SPLITS},
        "expect": {**entry.lines, "tolerance": listed.tolerance},
    }


def _missing(settings: PairList, listed: ListedCorpus, incomplete: dict[str, PairFiles], base: Path) -> str:
    """The message about all missing files, each once, with the place to get it from."""
    places = {file: obtain for found in incomplete.values() for file, obtain in found.missing}
    lines = [f"  {base / file}: {' '.join(obtain.split())}" for file, obtain in places.items()]
    lines += [f"  {text}" for text in _unread(listed, incomplete)]
    head = (
        f"pair_list {settings.name}: {len(places)} file{'s' * (len(places) > 1)} missing from {listed.corpus} "
        f"(described at {listed.described}); download each from where its line says, or correct pair_list.root, or set "
        "pair_list.missing to leave_out to prepare only the pairs that are complete:"
    )
    return "\n".join([head, *lines])


def _unread(listed: ListedCorpus, files: dict[str, PairFiles]) -> Iterator[str]:
    """What is in a pair's folders and is no text of it."""
    for name, found in files.items():
        if found.unread:
            codes = ", ".join(code for language in name.split("-") for code in listed.names(language))
            yield f"{name}: not read: {_shown(found.unread)}; a text is named CODE or NAME.CODE, with a CODE of {codes}"


def _unlisted(settings: PairList, listed: ListedCorpus, base: Path) -> Iterator[str]:
    """Pairs that the release's folder holds and the list does not know."""
    if listed.layout != "opus100":
        return
    release = opus100_release(base, Path(settings.root))
    for folder in sorted((base / release).glob("*/*-*")):
        if folder.is_dir() and folder.name not in listed.pairs:
            near = nearest(folder.name, listed.pairs)
            hint = f"; is it {near}?" if near else ""
            yield f"{folder.name}: {release / folder.parent.name / folder.name} is not a pair of {settings.name}{hint}"


def _shown(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
