"""Real bitext from Debian or Ubuntu packages: the translation catalogs of MediaWiki, GNOME, LibreOffice and others.

`python -m data_prep.quickstart.debian --languages nso msa --source-dir DIR --out DIR`. Packages are downloaded with
apt-get, which verifies them, and opened with dpkg-deb. Nothing is installed, no root is needed. The text is GPL-2+,
LGPL or MPL-2.0: it is fetched by whoever trains on it and is no part of this project.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from data_prep.quickstart.apt import Apt, FetchError
from data_prep.quickstart.catalog_packages import catalogs, packages_for
from data_prep.quickstart.catalog_pairs import catalog_pairs
from data_prep.quickstart.quickstart_text import unique_pairs, write_corpus_text
from data_prep.readers.notes import Notes
from smoe_ds.data.shards import sha256_of
from smoe_ds.errors import DataError

_SHOWN = 3  # notes on catalogs, of a language


class PackageStore:
    """Downloaded packages in a folder, listed with their hashes in ``packages.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._manifest = folder / "packages.json"
        self._packages: dict[str, dict[str, str]] = {}
        self._unavailable: list[str] = []

    def fetch(self, wanted: Sequence[str], optional: Sequence[str] = ()) -> list[Path]:
        """Downloads what is not here yet.

        Args:
            wanted: package names; one that this release does not have is named on stdout and left out.
            optional: the same, without a word about those it does not have.

        Returns:
            The package files.

        Raises:
            FetchError: apt-get fails, or offers none of the wanted packages.
        """
        self._read_manifest()
        asked = [*wanted, *optional]
        new = [name for name in asked if not self._is_here(name) and name not in self._unavailable]
        if new:
            self._download(new)
        absent = [name for name in wanted if name not in self._packages]
        if len(absent) == len(wanted):
            raise FetchError(f"apt offers none of the packages {', '.join(wanted)}; check /etc/apt/sources.list")
        if absent:
            print(f"not in this release, so left out: {', '.join(absent)}", flush=True)
        return [self.folder / self._packages[name]["file"] for name in asked if name in self._packages]

    def _read_manifest(self) -> None:
        if not self._manifest.exists():
            return
        try:
            manifest = json.loads(self._manifest.read_text(encoding="utf-8"))
            self._packages, self._unavailable = dict(manifest["packages"]), list(manifest["unavailable"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self._manifest}: not a list of packages written by this program ({error}); delete it"
            ) from error

    def _is_here(self, name: str) -> bool:
        entry = self._packages.get(name)
        if entry is None:
            return False
        path = self.folder / entry["file"]
        if path.exists() and sha256_of(path) == entry["sha256"]:
            return True
        print(f"{path}: missing or changed since it was downloaded; fetching it again", flush=True)
        del self._packages[name]
        return False

    def _download(self, names: Sequence[str]) -> None:
        """Complete packages move into the folder one by one; only then the list names them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        apt = Apt(self.folder / "apt")
        is_complete = apt.update()
        offered = apt.offered(names)
        for leftover in self.folder.glob("partial-*"):
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(prefix="partial-", dir=self.folder) as partial:
            if offered:
                apt.download(offered, Path(partial))
            for file in sorted(Path(partial).glob("*.deb")):
                entry = {"file": file.name, "sha256": sha256_of(file)}
                file.replace(self.folder / file.name)
                self._packages[file.name.split("_")[0]] = entry
        missing = [name for name in offered if name not in self._packages]
        if missing:
            raise FetchError(f"{self.folder}: apt-get download left out {', '.join(missing)}; run it again")
        if is_complete and offered:
            self._unavailable += [name for name in names if name not in offered]
        content = {"packages": self._packages, "unavailable": sorted(set(self._unavailable))}
        temporary = self._manifest.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self._manifest)
        shutil.rmtree(apt.folder)


def extract_catalogs(package: Path, locales: Sequence[str], folder: Path) -> list[Path]:
    """Unpacks a package's catalogs in some locales, and MediaWiki's English messages.

    Args:
        package: a ``.deb`` file.
        locales: locale names, e.g. ``("ms", "ca")``.
        folder: where to; the paths inside the package are kept.

    Returns:
        The files, in the package's order.

    Raises:
        DataError: the package cannot be read.
    """
    names = "|".join(re.escape(locale) for locale in locales)
    wanted = re.compile(rf"(?:^|/)(?:(?:{names})/LC_MESSAGES/[^/]+\.mo|i18n/(?:[^/]+/)*(?:en|{names})\.json)$")
    written = []
    for name, content in _members(package):
        path = PurePosixPath(name)
        if wanted.search(name) and not path.is_absolute() and ".." not in path.parts:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())
            written.append(target)
    return written


def _members(package: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The regular files inside a package, as (name, open file)."""
    damaged = f"{package}: not a readable Debian package; delete it and run again"
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isfile() else None
                    if content is not None:
                        yield member.name, content
        except tarfile.TarError as error:
            raise DataError(f"{damaged} ({error})") from error
    if process.returncode:
        raise DataError(f"{damaged} (dpkg-deb: exit status {process.returncode})")


def fetch_corpus_text(
    languages: Sequence[str], source_dir: Path, out: Path, output: str, max_plain_words: int | None = None
) -> Path:
    """Downloads, unpacks, cleans and writes the text of English with each language.

    Args:
        languages: codes of M15, or locale names such as ``de``.
        source_dir: keeps the packages.
        out: receives ``text/``, ``origin.json`` and ``spec.yaml``.
        output: folder of the prepared corpus, written into the specification, relative to ``out``.
        max_plain_words: only plain sentences of so many English words at most; None: all sentences.

    Returns:
        The specification for `python -m data_prep`.
    """
    packages = PackageStore(source_dir).fetch(*packages_for(languages))
    locales = sorted({locale for language in languages for locale in catalogs(language).locales})
    pairs = {}
    with tempfile.TemporaryDirectory() as temporary:
        for package in packages:
            files = extract_catalogs(package, locales, Path(temporary) / package.stem)
            print(f"{package.name}: {len(files)} catalogs", flush=True)
        for language in languages:
            notes = Notes()
            found = catalog_pairs(Path(temporary), catalogs(language).locales, notes)
            pairs[language] = unique_pairs(found, max_plain_words)
            print(f"eng-{language}: {len(pairs[language]):,} sentence pairs", flush=True)
            _say(language, notes)
    origin = {"source": "translation catalogs of Debian packages", "packages": [package.name for package in packages]}
    return write_corpus_text(out, pairs, output=output, origin=origin)


def _say(language: str, notes: Notes) -> None:
    """What the catalogs of a language left unclear: three of them by name, the rest in numbers."""
    for place in notes.places[:_SHOWN]:
        print(f"eng-{language}: {place}", flush=True)
    if len(notes.places) > _SHOWN:
        print(f"eng-{language}: {len(notes.places) - _SHOWN} more notes like these", flush=True)
    if left_out := notes.counts["plural_forms"]:
        print(f"eng-{language}: {left_out:,} plural messages left out", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; an error is one line on stderr; exit status 3 if packages cannot be had, 2 for other errors."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.quickstart.debian", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--languages", nargs="+", required=True, help="nso msa tgl cat ... (M15), or locale names: de xh"
    )
    parser.add_argument("--source-dir", type=Path, required=True, help="folder that keeps the packages")
    parser.add_argument("--out", type=Path, required=True, help="folder for text/ and spec.yaml")
    parser.add_argument("--output", default="prepared", help="prepared corpus, relative to --out (default %(default)s)")
    parser.add_argument(
        "--max-plain-words",
        type=int,
        metavar="N",
        help="only sentences of at most N English words, without placeholders, digits and file names (default: all)",
    )
    arguments = parser.parse_args(argv)
    try:
        spec = fetch_corpus_text(
            arguments.languages, arguments.source_dir, arguments.out, arguments.output, arguments.max_plain_words
        )
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3 if isinstance(error, FetchError) else 2
    print(f"specification: {spec}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
