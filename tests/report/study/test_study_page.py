"""The page of a study: everything in it, escaped, legible on a desk and on a phone, and made of rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smoe_ds.report.run_report.charts import Interval, interval_chart
from smoe_ds.report.study.contents import study_contents
from smoe_ds.report.study.page import study_html
from smoe_ds.study.row import Row, append_row, read_rows
from tests.helpers.browser import DESKTOP, LOW_CONTRAST, PHONE, needs_browser, opened

LANGUAGES = ("nso", "cat", "tgl", "msa")
DIRECTIONS = [name for one in LANGUAGES for name in (f"eng-{one}", f"{one}-eng")]


def row(system: str, seed: int, **more: Any) -> Row:
    nll = {name: 4 + number / 10 - len(system) / 50 + seed / 30 for number, name in enumerate(DIRECTIONS)}
    moe = system != "dense"
    return Row(
        **{"system": system, "variant": "", "seed": seed, "fingerprint": "f", "status": "done", "nll": nll}
        | {
            "curve": [(step, step * 8e3, step * (2.0 + moe), 9 / step + nll["eng-nso"]) for step in (500, 1000, 1500)],
            "scores": {name: {"bleu": value, "chrf": 2 * value} for name, value in nll.items()},
            "levels": {name: "low" if "nso" in name else "high" for name in DIRECTIONS},
            "capacity": {"language": {"decoder": {one: seed + place for place, one in enumerate(LANGUAGES)}}}
            if moe
            else {},
            "chance": [{"side": "decoder", "by": "language", "effect": 0.2, "p": 0.01, "sentences": 5}] if moe else [],
            "seconds_per_step": 2.0 + moe,
            "peak_memory": 2**30,
            "parameters": 5_000_000,
            "flops_per_token": 3e6,
        }
        | more
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    for seed in (1, 2):
        for system in ("dense", "vanilla", "smoe-<b>2-2"):
            append_row(folder / "results.jsonl", row(system, seed))
    append_row(folder / "results.jsonl", row("cmr", 1, status="failed", error="<script>alert(1)</script>"))
    contents = study_contents("small & fine", read_rows(folder / "results.jsonl"), "vanilla", {}, 9)
    file = folder / "report.html"
    file.write_text(study_html(contents), encoding="utf-8")
    return file


def test_what_is_on_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "small &amp; fine" in text and "6 of 9 runs have ended, 1 failed. 4 systems, 8 directions." in text
    assert "&lt;script&gt;alert(1)" in text and "<script>alert" not in text and "smoe-<b>" not in text
    assert text.count("<svg role=") == 3 + 4  # metrics, and curves with that of differences
    for part in ("updates", "million tokens", "hours of training"):
        assert f"Validation NLL (nat per token) after {part}" in text
    for part in (
        "eng-nso",
        "eng-xxx low",
        "xxx-eng high",
        "Do seeds agree",
        "Is it more than chance?",
        "5.0M",
        "1.00 GiB",
    ):
        assert part in text
    assert "://" not in text


def test_a_study_with_one_failed_run_has_a_page() -> None:
    text = study_html(study_contents("s", [row("dense", 1, status="failed", nll={}, scores={}, curve=[])], None, {}, 1))
    assert (
        "Nothing was validated." in text
        and "Do seeds agree" not in text
        and "There are no scores by direction." in text
    )
    assert "No run has ended some of whose tokens pass more" in text


def test_intervals_have_a_point_a_seed_and_a_line_an_error() -> None:
    chart = interval_chart([Interval("a", 2.0, 0.5, [1.5, 2.5]), Interval("b", 3.0, None, [3.0])], "t", "x", ".2f")
    assert chart is not None
    assert chart.count("<circle") == 3
    assert chart.count('class="line') == 2 + 1  # both means, and one error
    assert ">2.00<" in chart and ">3.00<" in chart
    assert interval_chart([], "t", "x", ".2f") is None


@needs_browser
@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_legible_in_a_browser(page: Path, size: tuple[int, int], scheme: str) -> None:
    with opened(page, size, color_scheme=scheme) as shown:
        shown.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert shown.evaluate(LOW_CONTRAST) == []
        wrapped = "[...document.querySelectorAll('td, tbody th')].filter((one) => one.getClientRects()[0].height > 45)"
        assert shown.evaluate(f"{wrapped}.map((one) => one.textContent)") == []
