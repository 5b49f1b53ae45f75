"""Exchanged sides: single pairs in a text; whole texts by function words, or by what their languages have elsewhere."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_prep.cleaning.exchanged import by_function_words, exchanged_texts, likeness
from data_prep.cleaning.swapped import NUM_BUCKETS, Sides, compare_sides
from data_prep.readers.side_lines import lines_of
from tests.helpers.prepared import prepare_spec, sentence, small_spec, translate


def test_exchanged_sides_are_counted() -> None:
    pairs = [(sentence(number), translate(sentence(number), "nso")) for number in range(300)]
    swapped = {10, 77, 123, 299}
    pairs = [(b, a) if number in swapped else (a, b) for number, (a, b) in enumerate(pairs)]
    pairs += [("Firefox 3.0", "Firefox 3.0"), ("3", "3")]
    assert swapped_of(pairs) == len(swapped)


def swapped_of(pairs: list[tuple[str, str]]) -> int:
    return sides_of(pairs).swapped


def sides_of(pairs: list[tuple[str, str]]) -> Sides:
    return compare_sides(*(lines_of([pair[side] for pair in pairs]) for side in (0, 1)))


def naive_swapped(pairs: list[tuple[str, str]]) -> int:
    """Exchanged pairs, found with dictionaries of words."""
    lines = [tuple(side.lower().split() for side in pair) for pair in pairs]
    only = [tuple([w for w in line[side] if w not in line[1 - side]] for side in (0, 1)) for line in lines]
    counts = [Counter(word for line in only for word in line[side]) for side in (0, 1)]

    def evidence(line: tuple[list[str], ...], side: int) -> float:
        return sum(
            math.log(max(counts[side][word] - 1, 0) + 0.5) - math.log(counts[1 - side][word] + 0.5)
            for word in line[side]
        )

    return sum(all(evidence(line, side) < -math.log(100) for side in (0, 1)) for line in only)


def test_exchanged_sides_equal_a_count_with_dictionaries() -> None:
    """Names that one language has on its side only, and that some exchanged lines have on both."""
    rng = random.Random(3)
    pairs = []
    for number in range(400):
        src, tgt = sentence(number), translate(sentence(number), "nso")
        if number % 3 == 0:
            src, tgt = f"{src} Opel Ford Audi", tgt
        if number % 5 == 0:
            src, tgt = f"{src} Opel Ford Audi", f"{tgt} Opel Ford Audi"
        pairs.append((tgt, src) if rng.random() < 0.15 else (src, tgt))
    swapped = swapped_of(pairs)
    assert swapped == naive_swapped(pairs) > 30
    assert swapped_of([]) == swapped_of([("a", "")]) == 0


def test_words_on_both_sides_of_a_line_say_nothing() -> None:
    """Else the line would count: each side repeats a word of the other language more often than one of its own."""
    pairs = [("one here", "two there")] * 50 + [("two two two one", "one one one two")]
    assert swapped_of(pairs) == naive_swapped(pairs) == 0
    pairs[-1] = ("two two two", "one one one")
    assert swapped_of(pairs) == naive_swapped(pairs) == 1


def exchanged(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(tgt, src) for src, tgt in pairs]


def bitext(language: str, number: int = 200, first: int = 0) -> list[tuple[str, str]]:
    return [(sentence(k), translate(sentence(k), language)) for k in range(first, first + number)]


UNKNOWN = {"nso": "qab", "cat": "qac", "rus": "qad", "ssw": "qae", "oci": "qaf"}
"""Codes of which nothing is known, so that other texts alone can tell."""


def naive_likeness(own: list[str], others: list[str]) -> float:
    """Bhattacharyya coefficient of two lists of words, by dictionaries."""
    mine, rest = Counter(own), Counter(others)
    return sum(math.sqrt(mine[word] / len(own) * rest[word] / len(others)) for word in mine)


def test_frequent_words_are_the_most_frequent_ones() -> None:
    src = [" ".join(f"w{k}" for k in range(3000) if k % (row + 1) == 0) for row in range(30)]
    words = sides_of([(line, "x") for line in src]).words[0]
    counts = sorted(Counter(" ".join(src).split()).values(), reverse=True)
    assert len(words.buckets) == len(set(words.buckets.tolist())) == 1000
    assert abs(int(words.counts.sum()) - sum(counts[:1000])) < 40  # some words share a bucket
    assert words.counts.min() >= counts[1000] and np.array_equal(sides_of([]).words[0].buckets, [])


def test_a_text_that_is_exchanged_as_a_whole_is_found_by_the_other_pairs() -> None:
    texts = {f"qaa-{UNKNOWN[language]}": bitext(language, 500) for language in ("nso", "cat", "rus")}
    right = {(pair, "train"): sides_of(lines) for pair, lines in texts.items()}
    assert exchanged_texts(right) == []
    for pair, lines in texts.items():
        turned = sides_of(exchanged(lines))
        assert turned.swapped == 0  # nothing shows inside the text
        assert exchanged_texts(right | {(pair, "train"): turned}) == [(pair, "train")]
        assert exchanged_texts(right | {(pair, "test"): sides_of(exchanged(lines[:60]))}) == [(pair, "test")]


def test_several_texts_that_are_exchanged_are_found() -> None:
    """All splits of two pairs of five; those agree with each other."""
    pairs = {("qaa-" + UNKNOWN[name], split): bitext(language, first=first)
             for language, names in {"nso": ("nso", "ssw"), "cat": ("cat", "oci"), "rus": ("rus",)}.items()
             for name in names for split, first in (("train", 0), ("test", 300))}  # fmt: skip
    for wrong in (("qaa-qae", "qaa-qad"), ("qaa-qab", "qaa-qaf")):
        texts = {name: sides_of(exchanged(lines) if name[0] in wrong else lines) for name, lines in pairs.items()}
        assert set(exchanged_texts(texts)) == {name for name in pairs if name[0] in wrong}


def test_the_languages_of_a_pair_have_either_side_and_several_codes() -> None:
    nso, cat = bitext("nso"), bitext("cat")
    texts = {"qaa-qab": nso, "qac-QAA": exchanged(cat), "qaa_Latn-qad": bitext("rus")}
    right = {(pair, "train"): sides_of(lines) for pair, lines in texts.items()}
    assert exchanged_texts(right) == []
    assert exchanged_texts(right | {("qac-QAA", "train"): sides_of(cat)}) == [("qac-QAA", "train")]


def test_of_a_lone_pair_the_splits_are_compared() -> None:
    train, test = bitext("nso"), bitext("nso", first=300)
    assert exchanged_texts({("qaa-qab", "train"): sides_of(train), ("qaa-qab", "test"): sides_of(test)}) == []
    turned = {("qaa-qab", "train"): sides_of(train), ("qaa-qab", "test"): sides_of(exchanged(test))}
    assert exchanged_texts(turned) == [("qaa-qab", "train"), ("qaa-qab", "test")]  # which one is wrong nobody can tell
    assert exchanged_texts({("qaa-qab", "train"): sides_of(exchanged(train))}) == []


@pytest.mark.parametrize("number", [0, 1, 3, 49])
def test_a_few_lines_say_nothing(number: int) -> None:
    texts = {("qaa-qac", "train"): sides_of(bitext("cat"))}
    assert exchanged_texts(texts | {("qaa-qab", "train"): sides_of(exchanged(bitext("nso", number)))}) == []
    few = {("qaa-qac", "train"): sides_of([("yes", "a")] * 500), ("qaa-qab", "train"): sides_of([("a", "yes")] * 500)}
    assert exchanged_texts(few) == []


@pytest.mark.parametrize("seed", range(3))
def test_no_text_of_random_words_is_found(seed: int) -> None:
    rng = random.Random(seed)
    words = [f"w{k}" for k in range(300)]
    texts = {
        (f"qaa-l{number:02d}", "train"): sides_of(
            [(" ".join(rng.choices(words, k=8)), " ".join(rng.choices(words, k=8))) for _ in range(60)]
        )
        for number in range(20)
    }
    assert exchanged_texts(texts) == []


ENGLISH = [
    "The house is not far from the old bridge.", "You can open the file with this program.",
    "It was the end of the day.",
    "Do you want to keep the changes that were made?", "All of them are from the north of this country.",
    "This page has been moved to the archive by its author.", "The list of users is not available for you.",
]  # fmt: skip
OTHERS = {
    "deu": ["Das Haus ist nicht weit von der alten Brücke.", "Mit diesem Programm kann man die Datei öffnen.",
            "Es war das Ende von dem Tag.", "Möchten Sie die Änderungen oder nicht behalten?",
            "Alle sind aus dem Norden und nicht von hier.", "Diese Seite wurde von dem Autor in das Archiv verschoben.",
            "Die Liste der Benutzer ist für Sie nicht da."],
    "rus": ["Дом стоит не далеко от моста.", "Файл можно открыть в этой программе.", "Это был конец дня.",
            "Хотите ли вы сохранить это или нет?", "Все они с севера и из города.", "Это было по воле автора.",
            "Список не для вас и не для нас."],
    "zho": ["房子离老桥不远。", "你可以用这个程序打开文件。", "一天结束了。", "你想保留这些更改吗？",
            "他们都来自北方。", "此页面已移至存档。", "用户列表不可用。"],
    "qaa": ["Zo ka lem ni pu.", "Ra so vemi lo ku.", "Pe ni sa zo lom.", "Ka vu ni remo sal.", "Lom pe sa ni vu.",
            "Remo ka zo ni lem.", "Sal ni pu vemi ra."],
}  # fmt: skip


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("number", [3, 30])
def test_function_words_tell_the_only_text_of_a_corpus(language: str, number: int) -> None:
    pairs = list(zip(ENGLISH, OTHERS[language], strict=True)) * number
    for pair, lines, is_exchanged in (
        (f"eng-{language}", pairs, False), (f"eng-{language}", exchanged(pairs), True),
        (f"{language}-en", exchanged(pairs), False), (f"{language}-eng_Latn", pairs, True),
    ):  # fmt: skip
        assert by_function_words(pair, sides_of(lines)) is is_exchanged
        assert exchanged_texts({(pair, "train"): sides_of(lines)}) == [(pair, "train")] * is_exchanged
    for pair in ("qab-qac", "hye-yor"):
        assert by_function_words(pair, sides_of(pairs)) is None


def test_function_words_of_the_other_language_are_enough() -> None:
    pairs = list(zip(OTHERS["qaa"], OTHERS["deu"], strict=True)) * 10
    assert by_function_words("qaa-deu", sides_of(pairs)) is False
    assert by_function_words("deu-qaa", sides_of(pairs)) is True
    assert by_function_words("deu-zho", sides_of(list(zip(OTHERS["zho"], OTHERS["deu"], strict=True)) * 10)) is True


def test_function_words_decide_where_other_texts_mislead() -> None:
    """Two of three pairs are exchanged; by the other texts alone it is the third that looks wrong."""
    texts = {"eng-deu": exchanged(list(zip(ENGLISH, OTHERS["deu"], strict=True)) * 20),
             "eng-rus": exchanged(list(zip(ENGLISH, OTHERS["rus"], strict=True)) * 20),
             "eng-qaa": list(zip(ENGLISH, OTHERS["qaa"], strict=True)) * 20}  # fmt: skip
    found = exchanged_texts({(pair, "train"): sides_of(lines) for pair, lines in texts.items()})
    assert found == [("eng-deu", "train"), ("eng-rus", "train")]


def test_few_function_words_tell_nothing() -> None:
    assert by_function_words("eng-qaa", sides_of(list(zip(OTHERS["qaa"], ENGLISH, strict=True)) * 2)) is None  # lines
    assert by_function_words("eng-qaa", sides_of([("zo ka lem", "the the the")] * 100)) is None  # different ones
    assert by_function_words("eng-qaa", sides_of([("zo ka lem", "house by river")] * 100)) is None
    assert by_function_words("eng-qaa", sides_of([])) is None


def test_likeness_equals_that_of_dictionaries() -> None:
    elsewhere = sides_of(bitext("cat", 40)).words[0]
    counts = np.zeros(NUM_BUCKETS, np.int64)
    counts[elsewhere.buckets] = elsewhere.counts
    rest = [word for src, _ in bitext("cat", 40) for word in src.lower().split()]
    for side, words in enumerate(sides_of(bitext("nso")).words):
        own = " ".join(pair[side] for pair in bitext("nso")).lower().split()
        assert likeness(words, counts) == pytest.approx(naive_likeness(own, rest))
        assert 0.3 < likeness(words, counts) < 0.99 if side == 0 else likeness(words, counts) < 0.1


def test_the_report_warns_of_the_only_pair(tmp_path: Path) -> None:
    for side, texts in enumerate((OTHERS["deu"], ENGLISH)):
        lines = [f"{text} {number}\n" for number in range(40) for text in texts]
        (tmp_path / f"text.{side}").write_text("".join(lines), encoding="utf-8")
    manifest = prepare_spec(tmp_path, {
        "output": "out", "pairs": [{"pair": "eng-deu", "train": {"src": "text.0", "tgt": "text.1"}, "test": []}],
        "clean": {"near_duplicates": "keep"},
        "sentencepiece": {"vocab_size": 400, "allow_smaller": True, "num_threads": 1},
    }).manifest  # fmt: skip
    warning = r"eng-deu train: swapped 100% \((\d+) of \1 pairs\): pairs whose sides look exchanged"
    assert sum(bool(re.match(warning, text)) for text in manifest["warnings"]) == 1


def test_the_report_warns_of_an_exchanged_pair(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, languages=("nso", "cat"))
    source = spec["pairs"][0]["train"][0]
    source["src"], source["tgt"] = source["tgt"], source["src"]
    manifest = prepare_spec(tmp_path, spec).manifest
    assert manifest["report"]["eng-nso"]["train"]["noticed"] == {"swapped": 400}
    assert manifest["report"]["eng-cat"]["train"]["noticed"] == {}
    warning = r"eng-nso train: swapped 100% \((\d+) of \1 pairs\): pairs whose sides look exchanged"
    assert sum(bool(re.match(warning, text)) for text in manifest["warnings"]) == 1
