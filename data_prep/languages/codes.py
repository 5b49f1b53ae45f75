"""What is known of languages by their codes: usual scripts, which codes mean one language, which are misspelt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from data_prep.languages.scripts import NUMBER_OF_CODE
from smoe_ds.config.nearest import nearest

_USUAL = {
    "Latn": "af/afr an/arg br/bre ca/cat cs/ces cy/cym da/dan de/deu en/eng eo/epo es/spa et/est eu/eus fi/fin fo/fao "
    "fr/fra fy/fry ga/gle gd/gla gl/glg ha/hau hr/hrv hu/hun id/ind ig/ibo is/isl it/ita lb/ltz li/lim ln/lin "
    "lt/lit lv/lav mg/mlg mi/mri mt/mlt nb/nob nl/nld nn/nno no/nor ny/nya oc/oci om/orm pl/pol pt/por ro/ron rn/run "
    "rw/kin se/sme sk/slk sl/slv sn/sna so/som sq/sqi ss/ssw st/sot sv/swe sw/swa tl/tgl tn/tsn tr/tur ts/tso vi/vie "
    "wa/wln wo/wol xh/xho yo/yor zu/zul ceb fil fur ilo nso war",
    "Latn Arab": "jv/jav ku/kur ms/msa su/sun",
    "Latn Cyrl": "bs/bos sh/hbs sr/srp tk/tuk",
    "Latn Cyrl Arab": "az/aze kk/kaz uz/uzb",
    "Cyrl": "ba/bak bg/bul mk/mkd ru/rus uk/ukr",
    "Cyrl Latn": "be/bel tt/tat",
    "Cyrl Arab": "ky/kir tg/tgk",
    "Cyrl Mong": "mn/mon",
    "Arab": "ar/ara fa/fas ps/pus ur/urd",
    "Arab Cyrl Latn": "ug/uig",
    "Arab Deva": "ks/kas sd/snd",
    "Guru Arab": "pa/pan",
    "Hebr": "he/heb yi/yid",
    "Grek": "el/ell",
    "Armn": "hy/hye",
    "Geor": "ka/kat",
    "Ethi": "am/amh ti/tir",
    "Deva": "hi/hin mr/mar ne/nep sa/san bho mai",
    "Beng": "as/asm bn/ben",
    "Gujr": "gu/guj",
    "Orya": "or/ori",
    "Taml": "ta/tam",
    "Telu": "te/tel",
    "Knda": "kn/kan",
    "Mlym": "ml/mal",
    "Sinh": "si/sin",
    "Thai": "th/tha",
    "Laoo": "lo/lao",
    "Khmr": "km/khm",
    "Mymr": "my/mya shn",
    "Tibt": "bo/bod dz/dzo",
    "Hani Bopo": "zh/zho yue",
    "Hani Hira Kana": "ja/jpn",
    "Hang Hani": "ko/kor",
}
# The other two-letter codes, and the other languages of FLORES-200.
_NO_USUAL_SCRIPT = """
aa ab ae ak av ay bi bm ce ch co cr cu cv dv ee ff fj gn gv ho ht hz ia ie ii ik io iu kg ki kj kl kr kv kw la lg lu mh
na nd ng nr nv oj os pi qu rm sc sg sm to tw ty ve vo za
ace acm acq aeb ajp aka als apc arb ars ary arz ast awa ayr azb azj bam ban bem bjn bug cjk ckb crh dik dyu ewe fij fon
fuv gaz grn hat hne kab kac kam kbp kea khk kik kmb kmr knc kon lij lmo ltg lua lug luo lus lvs mag min mni mos npi nus
ory pag pap pbt pes plt prs quy sag sat scn smo srd swh szl taq tpi tum twi tzm umb uzn vec ydd zgh zsm
"""
# ISO 15924 codes that stand for several scripts of `data_prep.languages.scripts`, as in zho_Hant and jpn_Jpan.
_SEVERAL = {"Hans": "Hani Bopo", "Hant": "Hani Bopo", "Jpan": "Hani Hira Kana", "Kore": "Hang Hani"}


def _by_code() -> Mapping[str, tuple[str, str]]:
    """Two- and three-letter codes to (three-letter code, scripts)."""
    table: dict[str, tuple[str, str]] = {}
    for scripts, languages in _USUAL.items():
        for codes in languages.split():
            *_, name = codes.split("/")
            table |= dict.fromkeys(codes.split("/"), (name, scripts))
    return table


_BY_CODE = _by_code()
_KNOWN = frozenset({*_BY_CODE, *_NO_USUAL_SCRIPT.split()})
_SCRIPTS = sorted({*NUMBER_OF_CODE, *_SEVERAL})


def usual_scripts(language: str) -> frozenset[int]:
    """Numbers of the scripts that a language is written in; empty if nothing is known of it.

    Args:
        language: code of two or three letters, and perhaps a script, which then decides: ``sr``, ``srp``, ``srp_Cyrl``.
    """
    name, _, script = language.partition("_")
    if script.capitalize() in NUMBER_OF_CODE or script.capitalize() in _SEVERAL:
        scripts = _SEVERAL.get(script.capitalize(), script.capitalize())
    else:
        scripts = _BY_CODE.get(name.lower(), ("", ""))[1]
    return frozenset(NUMBER_OF_CODE[code] for code in scripts.split())


def same_language(language: str, variants: Iterable[Iterable[str]]) -> str:
    """One name for all codes of a language: ``en``, ``eng`` and ``eng_Latn`` are ``eng``.

    Args:
        language: the code.
        variants: groups of languages to take as one, by any of their codes; the name is the group's first.
    """
    name = _name(language)
    for group in variants:
        names = [_name(code) for code in group]
        if name in names:
            return names[0]
    return name


def are_one(language: str, other: str) -> bool:
    """Whether two codes mean one language, in a script or region that is the same or that one of them leaves open."""
    variants = {code.partition("_")[2].lower() for code in (language, other)} - {""}
    return _name(language) == _name(other) and len(variants) < 2


def misspelt(language: str) -> str | None:
    """What is odd about a code, with the nearest one that is known; None for a known one.

    Args:
        language: code of two or three letters, and perhaps a script (four letters) or a region.
    """
    name, _, variant = language.partition("_")
    script = variant.capitalize()
    if name in _KNOWN and (len(variant) != 4 or variant in _SCRIPTS):
        return None
    near = name.lower() if name.lower() in _KNOWN else nearest(name.lower(), _KNOWN)
    if len(variant) == 4:
        close = script if script in _SCRIPTS else nearest(script, _SCRIPTS)
        near = near and close and f"{near}_{close}"
    what = f"language {language}" if name not in _KNOWN else f"script {variant}"
    return f"no {what} is known here; " + (f"is it {near}?" if near else "check the code")


def _name(language: str) -> str:
    name = language.partition("_")[0].lower()
    return _BY_CODE.get(name, (name, ""))[0]
