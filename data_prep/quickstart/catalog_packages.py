"""Which Debian packages hold translation catalogs, and under which locale names a language is found in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# MediaWiki's messages and the gettext catalogs of programs with many translations: 76 MB with the two of M4.
COMMON_PACKAGES = [
    "mediawiki",
    "libgtk2.0-common",
    "libgtk-3-common",
    "nautilus-data",
    "caja-common",
    "gnome-control-center-data",
    "vlc-l10n",
    "evolution-common",
    "evolution-data-server-common",
    "libglib2.0-data",
    "mate-panel-common",
    "dpkg",
    "apt",
    "aptitude-common",
]


@dataclass(frozen=True)
class Catalogs:
    """Where a language's text is.

    Attributes:
        locales: names in file paths, ``ms`` of ``ms.json`` and ``ms/LC_MESSAGES``.
        office: suffix of its ``libreoffice-l10n-`` package, None without one.
    """

    locales: tuple[str, ...]
    office: str | None = None


# The languages of M15; M4 is the first four.
CATALOGS = {
    "nso": Catalogs(("nso",), "nso"),
    "msa": Catalogs(("ms",)),
    "tgl": Catalogs(("tl", "fil")),
    "cat": Catalogs(("ca",), "ca"),
    "run": Catalogs(("rn",)),
    "ssw": Catalogs(("ss",), "ss"),
    "ind": Catalogs(("id",), "id"),
    "nob": Catalogs(("nb", "no"), "nb"),
    "isl": Catalogs(("is",), "is"),
    "fao": Catalogs(("fo",)),
    "slv": Catalogs(("sl",), "sl"),
    "ltz": Catalogs(("lb",)),
    "lim": Catalogs(("li",)),
    "fur": Catalogs(("fur",)),
    "glg": Catalogs(("gl",), "gl"),
    # OPUS-100 codes that are no locale name themselves, or need a package more.
    "no": Catalogs(("nb", "no")),
    "sh": Catalogs(("sh", "sr@latin")),
    "zh": Catalogs(("zh_CN", "zh-hans")),
    "pt": Catalogs(("pt", "pt_BR")),
    "rw": Catalogs(("rw",), "rw"),
}


def catalogs(language: str) -> Catalogs:
    """Where a language is found: by the table, else by its code taken as a locale name, as in ``de`` or ``xh``."""
    return CATALOGS.get(language, Catalogs((language,)))


def packages_for(languages: Sequence[str]) -> tuple[list[str], list[str]]:
    """The packages that hold text in the given languages.

    Returns:
        (wanted everywhere, wanted where the distribution has them: Ubuntu keeps the catalogs of its main packages in
        language packs).
    """
    found = [catalogs(language) for language in languages]
    office = [f"libreoffice-l10n-{entry.office}" for entry in found if entry.office]
    packs = [
        f"language-pack-{kind}{locale}-base"
        for entry in found
        for locale in entry.locales
        if locale.isalpha()
        for kind in ("", "gnome-")
    ]
    return COMMON_PACKAGES + office, packs
