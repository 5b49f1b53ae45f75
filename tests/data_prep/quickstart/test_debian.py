"""Text from Debian packages: real apt and dpkg-deb on packages built here, no network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from data_prep.quickstart.catalog_packages import COMMON_PACKAGES, packages_for
from data_prep.quickstart.debian import PackageStore, extract_catalogs, fetch_corpus_text, main
from smoe_ds.errors import DataError
from tests.helpers.catalogs import build_package, compiled_catalog, write_repository

pytestmark = pytest.mark.skipif(
    shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None, reason="needs Debian's apt-get and dpkg-deb"
)

WIKI = "usr/share/mediawiki/languages/i18n"
ENGLISH = {
    "@metadata": {"authors": ["x"]},
    "found": "$1 {{PLURAL:$1|page|pages}} were found",
    "only": "Only in English",
}
MALAY = {"@metadata": {"authors": ["x"]}, "found": "$1 laman telah dijumpai"}

SLV = ("other", "one", "two", "few")
SLOVENIAN_FORMS = "Plural-Forms: nplurals=4; plural=(n%100==1 ? 1 : n%100==2 ? 2 : n%100==3 || n%100==4 ? 3 : 0);"


def mediawiki_files() -> dict[str, bytes]:
    texts = {"en": ENGLISH, "ms": MALAY, "qqq": {"found": "documentation of the message"}}
    return {f"{WIKI}/{locale}.json": json.dumps(messages).encode() for locale, messages in texts.items()}


def gettext_files() -> dict[str, bytes]:
    messages = {
        "menu\x04_Open the file": "_Buka fail itu",
        "%d file was copied\x00%d files were copied": "%d fail telah disalin",
        "Too short": "Pendek sangat",
        "Left in English here": "Left in English here",
    }
    slovenian = {"%d file was copied\x00%d files were copied": "\x00".join(f"{n} %d datotek je kopiranih" for n in SLV)}
    return {
        "usr/share/locale/ms/LC_MESSAGES/caja.mo": compiled_catalog(messages),
        "usr/share/locale/sl/LC_MESSAGES/caja.mo": compiled_catalog(slovenian, SLOVENIAN_FORMS),
        "usr/share/locale/sl/LC_MESSAGES/other.mo": compiled_catalog(slovenian),
        "usr/share/locale/de/LC_MESSAGES/caja.mo": compiled_catalog({"Open the file": "Datei öffnen"}),
        "usr/share/doc/caja/readme.txt": b"no catalog",
    }


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt repository with two of the packages that are asked for; apt sees no other."""
    folder = tmp_path / "repository"
    folder.mkdir()
    packages = [
        build_package(folder, "mediawiki", mediawiki_files()),
        build_package(folder, "caja-common", gettext_files(), version="1.0"),
    ]
    monkeypatch.setenv("APT_CONFIG", str(write_repository(folder, packages)))
    return folder


def test_extracts_the_wanted_locales_and_english_messages(tmp_path: Path) -> None:
    package = build_package(tmp_path, "both", {**mediawiki_files(), **gettext_files()})
    found = extract_catalogs(package, ["ms"], tmp_path / "out put")
    names = {str(path.relative_to(tmp_path / "out put")) for path in found}
    assert names == {f"{WIKI}/en.json", f"{WIKI}/ms.json", "usr/share/locale/ms/LC_MESSAGES/caja.mo"}
    assert json.loads((tmp_path / "out put" / WIKI / "ms.json").read_text()) == MALAY


def test_a_locale_is_no_prefix_and_no_pattern(tmp_path: Path) -> None:
    files = {f"{WIKI}/{name}.json": b"{}" for name in ("m", "ms", "ms-arab", "sr@latin", "sraXlatin")}
    package = build_package(tmp_path, "names", files)
    found = extract_catalogs(package, ["m", "sr@latin", "."], tmp_path / "out")
    assert sorted(path.stem for path in found) == ["m", "sr@latin"]


def test_damaged_package_is_named(tmp_path: Path) -> None:
    package = build_package(tmp_path, "cut", mediawiki_files())
    package.write_bytes(package.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cut_.*deb: not a readable Debian package; delete it"):
        extract_catalogs(package, ["ms"], tmp_path / "out")


def test_from_packages_to_specification(repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec_file = fetch_corpus_text(["msa"], tmp_path / "source dir", tmp_path / "text dir", "../prepared")
    text = tmp_path / "text dir" / "text"
    english = (text / "eng-msa.eng").read_text().splitlines()
    malay = (text / "eng-msa.msa").read_text().splitlines()
    assert set(zip(english, malay, strict=True)) == {
        ("Open the file", "Buka fail itu"),
        ("%d files were copied", "%d fail telah disalin"),
        ("$1 pages were found", "$1 laman telah dijumpai"),
    }
    spec = yaml.safe_load(spec_file.read_text())
    assert spec["output"] == "../prepared"
    assert spec["pairs"] == [
        {"pair": "eng-msa", "train": [{"src": "text/eng-msa.eng", "tgt": "text/eng-msa.msa"}]},
    ]
    assert "not in this release, so left out: libgtk2.0-common" in capfd.readouterr().out


def test_plural_forms_by_the_catalogs_header(
    repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch_corpus_text(["slv"], tmp_path / "source", tmp_path / "text", "../prepared")
    sides = [(tmp_path / "text/text" / f"eng-slv.{side}").read_text().splitlines() for side in ("eng", "slv")]
    assert list(zip(*sides, strict=True)) == [
        ("%d file was copied", "one %d datotek je kopiranih"),
        ("%d files were copied", "other %d datotek je kopiranih"),
    ]
    said = capfd.readouterr().out
    assert "eng-slv: other.mo: the header has no Plural-Forms; in plural messages of two forms" in said
    assert "eng-slv: 1 plural messages left out" in said


def test_packages_that_are_here_are_not_fetched_again(repository: Path, tmp_path: Path) -> None:
    wanted = ["mediawiki", "no-such-package"]
    first = PackageStore(tmp_path / "store").fetch(wanted)
    shutil.rmtree(repository)
    assert PackageStore(tmp_path / "store").fetch(wanted) == first
    assert [path.name for path in first] == ["mediawiki_1%3a1.0-1_all.deb"]


def test_half_finished_and_damaged_downloads_are_redone(repository: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "partial-old").mkdir(parents=True)
    (store / "partial-old/mediawiki_1.deb").write_bytes(b"half")
    (good,) = PackageStore(store).fetch(["mediawiki"])
    assert not (store / "partial-old").exists()
    content = good.read_bytes()
    good.write_bytes(content[:100])
    assert PackageStore(store).fetch(["mediawiki"])[0].read_bytes() == content


def test_package_that_differs_from_the_list_is_refused(repository: Path, tmp_path: Path) -> None:
    package = repository / "mediawiki_1%3a1.0-1_all.deb"
    content = bytearray(package.read_bytes())
    content[-1] ^= 1
    package.write_bytes(content)
    with pytest.raises(DataError, match="apt-get -q download mediawiki` failed"):
        PackageStore(tmp_path / "store").fetch(["mediawiki"])
    assert not list((tmp_path / "store").glob("*.deb"))


def test_nothing_on_offer_is_an_error_that_is_not_remembered(repository: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(DataError, match="apt offers none of the packages no-such-package"):
            PackageStore(tmp_path / "store").fetch(["no-such-package"])


def test_damaged_list_of_packages_is_named(tmp_path: Path) -> None:
    (tmp_path / "packages.json").write_text('{"packages": ')
    with pytest.raises(DataError, match=r"packages\.json: not a list of packages"):
        PackageStore(tmp_path).fetch(["mediawiki"])


def test_language_without_text_is_named_on_the_command_line(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--languages", "msa", "xx", "--source-dir", str(tmp_path / "s"), "--out", str(tmp_path / "o")]
    assert main(arguments) == 2
    assert "no sentence pairs found for xx" in capsys.readouterr().err
    assert not (tmp_path / "o" / "spec.yaml").exists()


def test_packages_of_m4() -> None:
    wanted, optional = packages_for(["nso", "msa", "tgl", "cat"])
    assert wanted == [*COMMON_PACKAGES, "libreoffice-l10n-nso", "libreoffice-l10n-ca"]
    assert "language-pack-gnome-tl-base" in optional
