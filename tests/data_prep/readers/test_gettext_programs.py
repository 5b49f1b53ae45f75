"""Our readers of catalogs beside gettext's own programs: this machine's catalogs, and plurals of three languages."""

from __future__ import annotations

import gettext
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from data_prep.readers.mo import read_mo
from data_prep.readers.notes import Notes
from data_prep.readers.po import catalog_messages, read_po

pytestmark = pytest.mark.skipif(
    shutil.which("msgfmt") is None or shutil.which("msgunfmt") is None, reason="needs gettext's msgfmt and msgunfmt"
)
INSTALLED = Path("/usr/share/locale")
NUM_CATALOGS = 40

PLURALS = {
    "ara": "nplurals=6; plural=n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : n%100>=11 ? 4 : 5;",
    "pol": "nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);",
    "slv": "nplurals=4; plural=(n%100==1 ? 1 : n%100==2 ? 2 : n%100==3 || n%100==4 ? 3 : 0);",
}
LARGE = 100
"""A number of the form that Unicode calls "other" in all of them."""


def some_installed() -> list[Path]:
    """Catalogs of this machine, from all over the languages."""
    found = sorted(INSTALLED.glob("*/LC_MESSAGES/*.mo"))
    return found[:: max(1, len(found) // NUM_CATALOGS)][:NUM_CATALOGS]


def test_installed_catalogs_are_read_as_gettexts_programs_read_them(tmp_path: Path) -> None:
    """A catalog gives the same pairs compiled and not; msgfmt counts as many messages as we read."""
    catalogs = some_installed()
    if not catalogs:
        pytest.skip(f"no catalogs in {INSTALLED}")
    po, read = tmp_path / "a.po", 0
    for catalog in catalogs:
        subprocess.run(["msgunfmt", "--force-po", "-o", po, catalog], check=True)
        command = ["msgfmt", "--statistics", "-o", os.devnull, po]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
        counted = re.search(r"(\d+) translated message", done.stderr)
        assert counted, done.stderr
        messages = [message for message in catalog_messages(po, Notes(), refuse_invalid=True) if not message.is_header]
        assert len(messages) == int(counted[1]), catalog
        ours, compiled = Counter(read_po(po, Notes(), refuse_invalid=True)), Counter(read_mo(catalog, Notes()))
        assert ours == compiled, catalog
        read += ours.total()
    assert read > len(catalogs)


@pytest.mark.parametrize("language", PLURALS)
@pytest.mark.parametrize("compiled", [False, True])
def test_plural_forms_are_those_that_a_program_shows(tmp_path: Path, language: str, compiled: bool) -> None:
    """The singular goes with what gettext shows for 1, the plural with what it shows for a large number."""
    header, number = PLURALS[language], int(PLURALS[language][len("nplurals=")])
    text = f'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n"Plural-Forms: {header}\\n"\n'
    for name in ("day", "hour"):
        text += f'\nmsgid "a {name}"\nmsgid_plural "%d {name}s"\n'
        text += "".join(f'msgstr[{form}] "{name} {form} \u0161"\n' for form in range(number))
    po, mo = tmp_path / "a.po", tmp_path / "a.mo"
    po.write_text(text, encoding="utf-8")
    subprocess.run(["msgfmt", "--check", "-o", mo, po], check=True, capture_output=True)
    with mo.open("rb") as file:
        shown = gettext.GNUTranslations(file)
    expected = [
        (english, shown.ngettext(f"a {name}", f"%d {name}s", n))
        for name in ("day", "hour")
        for english, n in ((f"a {name}", 1), (f"%d {name}s", LARGE))
    ]
    notes = Notes()
    found = read_mo(mo, notes) if compiled else read_po(po, notes, refuse_invalid=True)
    assert list(found) == expected and len({other for _, other in expected}) == 4
    assert not notes.counts and not notes.places
