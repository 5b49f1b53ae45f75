"""What is said of a corpus, whole: its check, a sentence pair, its statistics and the advice below them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from smoe_ds.config.data import DataConfig
from smoe_ds.data.check_corpus import CorpusCheck
from smoe_ds.data.corpus_stats import CorpusStats, DirectionStats, StatsSettings
from smoe_ds.data.located_pair import LocatedPair, LocatedSentence
from smoe_ds.report.byte_progress import ByteProgress
from smoe_ds.report.corpus import check_text, pair_page, stats_page

STATS = CorpusStats(
    path=Path("corpus"),
    settings=StatsSettings(DataConfig(path="corpus", temperature=2.5, max_tokens=8192), 1, 512, 32),
    directions=(
        DirectionStats("eng-nso", 12_000, 300_000, 400_000, 0, 0.75, 1234.5),
        DirectionStats("nso-eng", 500, 600, 700, 500, 0.25, 0.0),
    ),
    pairs_per_step=4321.4,
    tokens_per_step=250_000.0,
    window=98_304,
    packing=0.981,
)
TABLE = [
    "direction     sentences  source tokens  target tokens  too long  share (%)  epochs/100k steps",
    "------------  ---------  -------------  -------------  --------  ---------  -----------------",
    "eng-nso          12,000        300,000        400,000         0     75.000           1,234.50",
    "nso-eng             500            600            700       500     25.000               0.00",
    "------------  ---------  -------------  -------------  --------  ---------  -----------------",
    "2 directions     12,500        300,600        400,700       500    100.000                  -",
]
STEP = "T 2.5, 32 micro-batches of at most 8,192 tokens a step: about 4,321 sentence pairs and 250,000 tokens; packing "
WARNING = (
    "warning: 500 of 12,500 sentence pairs are never read, among them all of nso-eng: with special tokens a side "
    "exceeds max_positions 512, or both exceed max_tokens 8,192"
)
HINT = (
    "hint: windows of 98,304 pairs leave 10.0 % padding; a larger smoe.data.window leaves less, but repeats the pairs "
    "of small directions within a micro-batch"
)


def test_statistics() -> None:
    assert stats_page(STATS).text().splitlines() == [*TABLE, "", f"{STEP}98.1 %", WARNING]
    padded = stats_page(replace(STATS, packing=0.9)).text().splitlines()
    assert padded == [*TABLE, "", f"{STEP}90.0 %", "", HINT, WARNING]
    fits = replace(STATS, directions=(replace(STATS.directions[0]), replace(STATS.directions[1], too_long=0)))
    assert stats_page(fits).text().splitlines()[-1] == f"{STEP}98.1 %"


def test_statistics_as_json() -> None:
    content = json.loads(json.dumps(STATS.as_json()))
    assert list(content) == [
        *["path", "temperature", "max_tokens", "micro_batches", "totals", "directions"],
        *["pairs_per_step", "tokens_per_step", "window", "packing"],
    ]
    assert tuple(DirectionStats(**entry) for entry in content["directions"]) == STATS.directions
    assert content["totals"] == {
        **{"directions": 2, "sentences": 12_500, "src_tokens": 300_600, "tgt_tokens": 400_700, "too_long": 500}
    }


@pytest.mark.parametrize(("damage", "end"), [(["a: empty"], "1 problem"), (["a: empty", "b: gone"], "2 problems")])
def test_damage(damage: list[str], end: str) -> None:
    check = CorpusCheck(Path("corpus"), 12, 345_678, 9_000, tuple(damage))
    last = f"corpus: {end}; restore the files or prepare the corpus again"
    assert check_text(check).splitlines() == [*damage, last]
    whole = "corpus: 12 files, 345,678 bytes, 9,000 sentence pairs: all as written"
    assert check_text(replace(check, damage=())) == whole


def test_a_sentence_pair() -> None:
    src = LocatedSentence("eng", "Snow.", ("▁Snow", "."), (7, 12), Path("train/eng-nso/00000.eng.bin"), 3, 40, 80)
    tgt = replace(src, language="nso", text="Leru", pieces=("▁Leru",), ids=(9,), start=5, offset=10)
    assert pair_page(LocatedPair("eng-nso", "train", 3, 12_000, (src, tgt))).text().splitlines() == [
        "eng-nso: sentence 3 of 12,000 in train",
        "",
        "eng: Snow.",
        "  pieces: ▁Snow .",
        "  ids:    7 12",
        "  from:   train/eng-nso/00000.eng.bin, sentence 3, ids 40 to 41, byte offset 80",
        "",
        "nso: Leru",
        "  pieces: ▁Leru",
        "  ids:    9",
        "  from:   train/eng-nso/00000.eng.bin, sentence 3, ids 5 to 5, byte offset 10",
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (io.StringIO(), "checked 1.00 of 3.00 GB\nchecked 3.00 of 3.00 GB\n"),
        (_Terminal(), "\rchecked 1.00 of 3.00 GB\rchecked 3.00 of 3.00 GB\n"),
    ],
)
def test_progress(stream: io.StringIO, expected: str) -> None:
    progress = ByteProgress(stream, interval=0)
    progress.add(10**9, 3 * 10**9)
    progress.add(2 * 10**9, 3 * 10**9)
    progress.end()
    assert stream.getvalue() == expected


def test_progress_is_not_said_all_the_time() -> None:
    stream = _Terminal()
    progress = ByteProgress(stream, interval=60)
    progress.add(1, 2)
    progress.end()
    assert stream.getvalue() == ""
