"""Hostile little parallel files, made by code: each with what must come of it."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field

ENG = ["The house is small.", "Press any key to continue.", "She was born in 1983 in Pretoria.",
       "The file could not be opened.", "Good morning, everyone!"]  # fmt: skip
MSA = ["Rumah itu kecil.", "Tekan sebarang kekunci untuk teruskan.", "Dia dilahirkan pada tahun 1983 di Pretoria.",
       "Fail itu tidak dapat dibuka.", "Selamat pagi, semua!"]  # fmt: skip


@dataclass(frozen=True)
class Nasty:
    """Two files' bytes and the outcome: an error that matches, or pairs kept, dropped and noticed by name."""

    src: bytes
    tgt: bytes
    error: str = ""
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    noticed: dict[str, int] = field(default_factory=dict)
    suffix: str = ""
    clean: dict[str, object] = field(default_factory=dict)


def joined(lines: list[str], end: str = "\n") -> bytes:
    """Lines as a UTF-8 file."""
    return "".join(line + end for line in lines).encode()


_ENG, _MSA = joined(ENG), joined(MSA)
_LONG = gzip.compress(joined([f"{number} {line}" for number in range(40) for line in ENG]), mtime=0)

CASES = {
    "clean": Nasty(_ENG, _MSA, kept=5),
    "target one line short": Nasty(
        _ENG, joined(MSA[:4]),
        error=r"5 lines, .* has 4: they are not aligned beyond line 4",
    ),
    "target one line long": Nasty(_ENG, joined([*MSA, "Satu lagi."]), error="has 5 lines, .* has 6"),
    "no final newline": Nasty(_ENG[:-1], _MSA, kept=5),
    "blank line at the end": Nasty(_ENG + b"\n", _MSA, error="has 6 lines, .* has 5.*ends with an empty line"),
    "byte order mark": Nasty(b"\xef\xbb\xbf" + _ENG, _MSA, kept=5, noticed={"byte_order_mark": 1}),
    "nothing but a byte order mark": Nasty(b"\xef\xbb\xbf", b"", kept=0, noticed={"byte_order_mark": 1}),
    "CRLF": Nasty(joined(ENG, "\r\n"), joined(MSA, "\r\n"), kept=5, noticed={"crlf": 10}),
    "CRLF on one side": Nasty(joined(ENG, "\r\n"), _MSA, kept=5, noticed={"crlf": 5}),
    "lone CR": Nasty(joined(ENG, "\r"), _MSA, error=r"src: 5 lone CR characters in 1 lines: old-Mac line ends"),
    "NUL bytes": Nasty(_ENG.replace(b"house", b"ho\0use"), _MSA, kept=5, noticed={"control_characters": 1}),
    "other control characters": Nasty(
        b"a\x01\x7fb \xef\xbf\xbe\n", b"a b\n", kept=1, noticed={"control_characters": 1}
    ),
    "invalid UTF-8": Nasty(_ENG.replace(b"small", b"sm\xff\xfell"), _MSA, kept=4, dropped={"invalid_utf8": 1}),
    "invalid UTF-8, refused": Nasty(
        _ENG.replace(b"key", b"k\xe9y"), _MSA, clean={"invalid_utf8": "refuse"},
        error=r"src: not UTF-8: line 2, byte offset 31 \(0xe9\); convert the file",
    ),
    "Latin-1": Nasty(
        "Café número uno.\nRápido.\n".encode("latin-1"), b"Kafe.\nPantas.\n",
        error=r"src: not UTF-8: 2 of 2 lines .* the first at line 1, byte offset 3 \(0xe9\)",
    ),
    "UTF-16": Nasty(
        b"\xff\xfe" + _ENG.decode().encode("utf-16-le"), _MSA,
        error="src: not UTF-8: line 1, byte offset 0: UTF-16 byte order mark",
    ),
    "UTF-32": Nasty(b"\xff\xfe\0\0" + _ENG.decode().encode("utf-32-le"), _MSA, error="UTF-32 byte order mark"),
    "UTF-16 without a mark": Nasty(_ENG.decode().encode("utf-16-be"), _MSA, error="NUL bytes for a quarter.*UTF-16"),
    "U+2028 inside": Nasty(_ENG.replace(b" is", "\u2028is".encode()), _MSA, kept=5),
    "other separators": Nasty(
        "One\u2029two.\nFour\x85five.\nSeven\veight.\nTen\feleven.\nA\x1cb\x1dc\x1ed.\n".encode(),
        b"Satu dua.\nEmpat lima.\nTujuh lapan.\nSepuluh sebelas.\nE f g h.\n", kept=5,
    ),
    "empty and blank lines": Nasty(
        joined([ENG[0], "", ENG[1], "   ", ENG[2], ENG[3], "\u00a0", "\u200b"]),
        joined([MSA[0], MSA[1], "", MSA[2], " \t", MSA[3], "x", "y"]), kept=2, dropped={"empty": 6},
    ),
    "a line of 1 MB": Nasty(
        joined([ENG[0], "word " * 200_000, ENG[1]]), joined([MSA[0], "perkataan " * 150_000, MSA[1]]),
        kept=2, dropped={"too_long": 1},
    ),
    "a line of 100,000 characters": Nasty(
        joined([ENG[0], "wörd " * 20_000]), joined([MSA[0], "kata " * 20_000]), kept=1, dropped={"too_long": 1}
    ),
    "a line of 10 MB": Nasty(
        joined([ENG[0], "x" * 10_000_000, ENG[1]]), joined([MSA[0], "y", MSA[1]]), kept=2, dropped={"too_long": 1}
    ),
    "a long token without spaces": Nasty(
        joined(["x" * 300_000, ENG[0]]), joined(["y" * 300_000, MSA[0]]), kept=1, dropped={"too_long": 1}
    ),
    "direction marks": Nasty(
        "Read the \u200ffile\u200e name.\n\u202bSee page 5\u202c.\n\u2066Version\u2069 2.0\n".encode(),
        "اقرأ اسم\u200f الملف\u200e.\n\u202bانظر الصفحة 5\u202c.\nصدر \u20662.0\u2069.\n".encode(), kept=3,
    ),
    "one source, many targets": Nasty(
        joined([ENG[0]] * 4), joined([MSA[0], "Rumahnya kecil.", "Rumah itu kecil sahaja.", "Kecil rumah itu."]), kept=4
    ),
    "source equals target": Nasty(_ENG, _ENG, kept=5, noticed={"copies": 5}, clean={"copies": "keep"}),
    "source equals target, dropped": Nasty(_ENG, _ENG, dropped={"copy": 5}),
    "wrong script": Nasty(
        _ENG,
        joined(["Дом маленький.", "続けるには何かキーを押してください。", MSA[2], "Το αρχείο δεν ανοίγει.", MSA[4]]),
        kept=2, dropped={"wrong_script": 3},
    ),
    "wrong script, kept": Nasty(
        _ENG, joined(["Дом маленький.", *MSA[1:]]), kept=5, noticed={"other_script": 1}, clean={"wrong_script": "keep"}
    ),
    "no letters": Nasty(joined(["1983", ENG[0], "..."]), joined(["1983!", MSA[0], "—"]), kept=1,
                        dropped={"no_letters": 2}),
    "no letters, kept": Nasty(b"1,5\n", b"1.5\n", kept=1, clean={"no_letters": "keep"}),
    "control characters, dropped": Nasty(_ENG.replace(b"house", b"ho\0use"), _MSA, kept=4,
                                         dropped={"control_characters": 1}, clean={"control_characters": "drop"}),
    "shifted by one": Nasty(_ENG, joined([MSA[4], *MSA[:4]]), kept=5),
    "tabs inside": Nasty(
        b"The\thouse is small.\nTwo\ttabs\there.\n", b"Rumah\titu kecil.\nDua\ttab\tdi sini.\n", kept=2
    ),
    "special token text": Nasty(
        "<s> is a tag </s>\n<pad> <unk> <2msa> [MASK]\n__en__ hello\n▁lower one eighth block\n".encode(),
        "<s> ialah tag </s>\n<pad> <unk> <2msa> [MASK]\n__ms__ helo\n▁blok bawah satu\n".encode(),
        kept=4, noticed={"copies": 1}, clean={"copies": "keep"},
    ),
    "unnormalised": Nasty(
        "Cafe\u0301 and ﬁne, ｆｕｌｌ\nA\u00a0non‑breaking space\nSoft\u00adhyphen\n".encode(),
        "Kafe\u0301 dan lain\nRuang\u00a0tak putus\nTanda\u00adsempang\n".encode(), kept=3,
    ),
    "surrogates": Nasty(
        b"Lone surrogate \xed\xa0\x80 here.\nNoncharacter \xef\xbf\xbe in text.\n" + "Family 👨‍👩‍👧 stays.\n".encode(),
        b"Satu ini.\nDua teks ini.\nTiga keluarga.\n",
        kept=2, dropped={"invalid_utf8": 1}, noticed={"control_characters": 1},
    ),
    "empty files": Nasty(b"", b""),
    "one pair only": Nasty(joined(ENG[:1]), joined(MSA[:1]), kept=1),
    "length ratio": Nasty(joined(["Yes.", ENG[0] * 5]), joined([MSA[0] * 5, "Ya."]), dropped={"length_ratio": 2}),
    "length ratio off": Nasty(
        joined(["Yes.", ENG[0] * 5]), joined([MSA[0] * 5, "Ya."]), kept=2, clean={"max_ratio": None}
    ),
    "too few words": Nasty(joined(["Yes.", ENG[1]]), joined(["Ya.", "Tekan."]), kept=1, dropped={"too_short": 1},
                           clean={"min_words": 2, "max_ratio": 9.0}),
    "truncated gzip": Nasty(_LONG[:-60], _LONG, error=r"src.gz: compressed file ended early", suffix=".gz"),
    "gzip cut in its header": Nasty(_LONG[:5], _LONG, error=r"src.gz: compressed file ended early", suffix=".gz"),
    "damaged gzip": Nasty(
        _LONG[:200] + b"\xff" * 40 + _LONG[240:], _LONG, error=r"src.gz: damaged gzip file", suffix=".gz"
    ),
    "several gzip members": Nasty(gzip.compress(_ENG) * 2, gzip.compress(_MSA * 2), kept=10, suffix=".gz"),
    "not gzip": Nasty(_ENG, _MSA, error=r"src.gz: is named .gz, but is not a gzip file", suffix=".gz"),
    "gzip without its name": Nasty(gzip.compress(_ENG), _MSA, error=r"src: is gzip-compressed, but is not named .gz"),
}  # fmt: skip
