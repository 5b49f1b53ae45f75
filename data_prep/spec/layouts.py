"""Where the files of a listed pair are: OPUS-100's release, and folders of NLLB's bitext beside FLORES-200."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.readers.compressed import SUFFIXES
from data_prep.spec.pair_lists import ListedCorpus
from smoe_ds.errors import DataError

FLORES = {"valid": "dev", "test": "devtest"}
OPUS100 = {"train": "train", "valid": "dev", "test": "test"}


@dataclass
class PairFiles:
    """The files of a pair that were found, and those that were not.

    Attributes:
        sources: file pairs by split, as a specification writes them.
        missing: (file, where to get it).
        unread: what else is in folders for the pair.
    """

    sources: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    missing: list[tuple[str, str]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def add(self, split: str, base: Path, names: tuple[str, str], obtain: str) -> None:
        """Adds two files, plain or compressed, to a split, or to the missing ones.

        Raises:
            DataError: one of them is there twice, compressed in different ways.
        """
        found = [_existing(base, name) for name in names]
        self.missing += [(name, obtain) for name, file in zip(names, found, strict=True) if file is None]
        src, tgt = found
        if src is not None and tgt is not None:
            self.sources.setdefault(split, []).append({"src": src, "tgt": tgt})


def _existing(base: Path, name: str) -> str | None:
    """The file's name as it is there, with the ending of its compression."""
    found = [name + suffix for suffix in ("", *SUFFIXES) if (base / (name + suffix)).is_file()]
    if len(found) > 1:
        raise DataError(f"{found[1]}: there is {found[0]} for the same side of the same text; remove one of them")
    return found[0] if found else None


def opus100_files(listed: ListedCorpus, pair: str, base: Path, root: Path) -> PairFiles:
    """The files of an OPUS-100 pair.

    Args:
        listed: the list.
        pair: its name there; zero-shot pairs are those without training text.
        base: folder that the root is relative to.
        root: the unpacked release: ``opus-100-corpus``, its ``v1.0`` or the folder it was unpacked in.

    Raises:
        DataError: a file is there twice, compressed in different ways.
    """
    lines, src, tgt = listed.pairs[pair].lines, *pair.split("-")
    part = "supervised" if "train" in lines else "zero-shot"
    folder = opus100_release(base, root) / part / pair
    files = PairFiles()
    for split in lines:
        stem = f"{folder}/opus.{pair}-{OPUS100[split]}"
        files.add(split, base, (f"{stem}.{src}", f"{stem}.{tgt}"), listed.obtain[part].replace("{pair}", pair))
    return files


def opus100_release(base: Path, root: Path) -> Path:
    """The folder that holds ``supervised`` and ``zero-shot``, for a root that may lie one or two levels higher."""
    candidates = [root / "v1.0", root, root / "opus-100-corpus" / "v1.0"]
    return next((folder for folder in candidates if (base / folder / "supervised").is_dir()), candidates[0])


def nllb_files(listed: ListedCorpus, pair: str, base: Path, root: Path, flores: Path) -> PairFiles:
    """The files of a pair of NLLB's bitext, from every corpus that has it, and of FLORES-200.

    Args:
        listed: the list.
        pair: its name there.
        base: folder that the roots are relative to.
        root: folder of the corpora, a folder each.
        flores: FLORES-200's ``flores200_dataset``.

    Raises:
        DataError: a corpus has two files for the same side of a text.
    """
    src, tgt = pair.split("-")
    entry, files = listed.pairs[pair], PairFiles()
    obtain = listed.obtain["train"] + (f", and {listed.obtain[entry.also]}" if entry.also else "")
    texts, files.unread = _nllb_texts(listed, (src, tgt), base, root)
    for stem, sides in texts.items():
        files.missing += [(f"{stem}{side}", obtain) for side in (src, tgt) if side not in sides]
        if len(sides) == 2:
            files.sources.setdefault("train", []).append({"src": sides[src], "tgt": sides[tgt]})
    if not texts:
        files.missing.append((f"{root}/CORPUS/{pair}/NAME.{src} and NAME.{tgt}", obtain))
    for split, part in FLORES.items():
        codes = [listed.codes[language][0] for language in (src, tgt)]
        first, second = (f"{flores}/{part}/{code}.{part}" for code in codes)
        files.add(split, base, (first, second), listed.obtain["flores"])
    return files


def _nllb_texts(
    listed: ListedCorpus, languages: tuple[str, str], base: Path, root: Path
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The texts of a pair: by path up to the language, the file of each language that is there; and what is no text."""
    first, second = (listed.names(language) for language in languages)
    pairs = {f"{a}-{b}" for one, other in ((first, second), (second, first)) for a in one for b in other}
    language_of = {name: language for language in languages for name in listed.names(language)}
    texts: dict[str, dict[str, str]] = {}
    unread = []
    for path in _candidates(base / root, pairs):
        name = path.name.removesuffix(path.suffix) if path.suffix in SUFFIXES else path.name
        code = name.rpartition(".")[2]  # all of the name in NLLB-Seed: eng_Latn-fur_Latn/fur_Latn
        language = language_of.get(code) if path.is_file() else None
        file = str(root / path.relative_to(base / root))
        if language is None:
            unread += [file] if path.parent.name in pairs else []
            continue
        sides = texts.setdefault(f"{Path(file).parent}/{name.removesuffix(code)}", {})
        if sides.setdefault(language, file) != file:
            raise DataError(
                f"{file}: there is {sides[language]} for the same side of the same text; remove one of them"
            )
    return texts, unread


def _candidates(root: Path, pairs: set[str]) -> Iterator[Path]:
    """What is in a corpus's folder for one of the pairs; files in the corpus's folder with a pair's name in theirs."""
    for corpus in sorted(path for path in root.glob("*") if path.is_dir()):
        for path in sorted(corpus.iterdir()):
            if path.is_file() and not pairs.isdisjoint(path.name.split(".")):
                yield path
            elif path.is_dir() and path.name in pairs:
                yield from sorted(found for found in path.iterdir() if not found.name.startswith("."))
