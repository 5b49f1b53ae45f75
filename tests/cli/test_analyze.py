"""``smoe-ds analyze``: tables hold what the analysis found, the page its means; a mistake is one line."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.analysis.routing_analysis import RoutingAnalysis, analyse_routing
from smoe_ds.cli.main import main
from smoe_ds.data.batch import Batch
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.validation_batches import ValidationBatches
from smoe_ds.decode.load import TrainedRun
from smoe_ds.errors import DataError
from smoe_ds.report.heat_maps import draw_experts, draw_languages, draw_load
from smoe_ds.report.routing import TABLES, routing_tables
from smoe_ds.report.routing_figures import FIGURES, draw_figures
from tests.helpers.environment import ROOT
from tests.helpers.prepared import small_corpus
from tests.helpers.random_run import random_run
from tests.helpers.ranks import run_ranks

NAMES = ("directions", "losses", "capacity", "chance", "pieces", "strata", "experts", "divergence")


def analyze(*arguments: object) -> int:
    return main(["analyze", *map(str, arguments), "--device", "cpu"])


@pytest.fixture(scope="module")
def analysis(run_dir: Path, corpus: Corpus) -> RoutingAnalysis:
    """Of the first three sentences of two directions."""
    run = TrainedRun(run_dir, device="cpu")
    return analyse_routing(run.translator(run.checkpoint()), corpus, "test", ["eng-nso", "cat-eng"], 3)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_files_and_page(
    run_dir: Path, corpus: Corpus, analysis: RoutingAnalysis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    asked = ("--split", "test", "--directions", "eng-nso,cat-eng", "--limit", 3, "--output", output)
    assert analyze(run_dir, *asked) == 0
    out, err = capsys.readouterr()
    assert f"wrote all numbers to {output}" in err
    assert {path.name for path in output.glob("*.csv")} == {f"{name}.csv" for name in NAMES}
    for name, table in routing_tables(analysis).items():
        cells = [{key: "" if value is None else str(value) for key, value in row.items()} for row in table.as_json()]
        assert read(output / f"{name}.csv") == cells
        assert cells
    about = json.loads((output / "analysis.json").read_text(encoding="utf-8"))
    assert (about["step"], about["split"], about["limit"]) == (30, "test", 3)
    assert about["corpus"] == corpus.fingerprint
    assert about["trees"]["encoder"]["newick"].endswith(");")
    for one in analysis.texts:
        rc = [analysis.capacity(side, "direction", "mean")[one.direction] for side in ("encoder", "decoder")]
        numbers = (*rc, analysis.loss("direction")[one.direction])
        words = " +".join(f"{number:.3f}" for number in numbers)
        assert re.search(rf"^{one.direction} +{one.train_sentences} +{words}$", out, re.M)
    drawn = {path.name for path in output.iterdir()} & set(FIGURES)
    assert drawn == (set(FIGURES) if find_spec("matplotlib") else set())
    assert ("matplotlib is not installed" in err) == (not drawn)
    assert analyze(run_dir, *asked, "--split", "train") == 0  # its own results may be replaced
    assert json.loads((output / "analysis.json").read_text(encoding="utf-8"))["split"] == "train"


def test_every_column_is_documented(analysis: RoutingAnalysis) -> None:
    text = (ROOT / "smoe_ds/analysis/ANALYSIS.md").read_text(encoding="utf-8")
    sections = {part.split(".csv`")[0]: part for part in text.split("\n## `")[1:]}
    assert set(sections) == set(NAMES) == set(TABLES) == set(routing_tables(analysis))
    for name, table in routing_tables(analysis).items():
        first_cells = re.findall(r"^\| (`.*?) \|", sections[name].split("\n## ")[0], re.M)
        documented = [key for cell in first_cells for key in re.findall(r"`(\w+)`", cell)]
        assert documented == [column.key for column in table.columns]


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_figures_are_drawn_alike_each_time(analysis: RoutingAnalysis, tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        draw_figures(analysis, tmp_path / folder)
    for name in FIGURES:
        drawn = (tmp_path / "one" / name).read_bytes()
        assert drawn == (tmp_path / "other" / name).read_bytes()
        assert drawn.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    by_direction = (tmp_path / "one" / "by_direction.svg").read_text(encoding="utf-8")
    places = [by_direction.index(f">{one.direction}<") for one in analysis.texts]
    assert places == sorted(places)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_heat_maps_say_what_the_tables_say(analysis: RoutingAnalysis) -> None:
    """Every share of every language, and every load, as the text in its cell; small cells have none."""
    shares = [f"{100 * share:.0f}" if share else "0" for one in analysis.shares for share in one.share_E]
    total = [one for one in analysis.shares if one.language == "all"]
    loads = [f"{share * len(one.all_E):.1f}" if share else "×" for one in total for share in one.share_E]
    for figure, expected in ((draw_experts(analysis.shares), shares), (draw_load(analysis.shares), loads)):
        assert sorted(text.get_text() for axes in figure.axes for text in axes.texts) == sorted(expected)
    maps = draw_languages(analysis.divergences).axes
    for of, axes in zip(analysis.divergences, maps[1::2], strict=False):
        assert tuple(label.get_text() for label in axes.get_yticklabels()) == of.tree.leaves


def test_a_run_s_own_folder(run_dir: Path, corpus: Corpus, tmp_path: Path) -> None:
    own = random_run(tmp_path, corpus, moe={"heads": 2})
    assert analyze(own, "--limit", 1, "--directions", "eng-nso") == 0
    rows = read(own / "analysis" / "capacity.csv")
    assert all(1 <= float(row["requested_capacity"]) <= 2 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--directions", "eng-nsa"], "no direction 'eng-nsa'; did you mean eng-nso?"),
        (["--directions", ","], "names none"),
        (["--data", "/nowhere"], "/nowhere: no such folder (--data); name the prepared corpus with --data DIR"),
        (["--set", "smoe.data.path=/gone"], "/gone: no such folder (smoe.data.path of "),
        (["--output", __file__], "is a file; name a folder"),
        (["--output", str(ROOT)], "exists and does not hold an analysis; choose another folder"),
    ],
    ids=["direction", "none", "data", "path", "file", "folder"],
)
def test_a_mistake_is_one_line(
    run_dir: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze(run_dir, *arguments) == 2
    assert message in only_line(capsys)


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


def test_what_cannot_be_analysed(
    run_dir: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = small_corpus(tmp_path, ["rus"])
    assert analyze(run_dir, "--data", other.path, "--directions", "eng-rus") == 2
    assert "was prepared with another vocabulary than the model's" in only_line(capsys)


def test_a_dense_model_has_losses(
    run_dir: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moe: dict[str, Any] = {"strata": []}
    dense, output = random_run(tmp_path, corpus, moe=moe), tmp_path / "out"
    asked = ("--limit", 2, "--directions", "eng-nso", "--output", output)
    assert analyze(run_dir, *asked) == 0
    capsys.readouterr()
    assert analyze(dense, *asked) == 0
    out, err = capsys.readouterr()
    assert "a dense model: it has no experts, and so no requested capacity" in out
    assert f"wrote all numbers to {output}" in err
    figures = {"losses.png", "losses.svg"} if find_spec("matplotlib") else set()
    files = {"analysis.json", "directions.csv", "losses.csv"} | figures
    assert {path.name for path in output.iterdir()} == files, "nothing of the other model is left"
    (every,) = (row for row in read(output / "losses.csv") if row["by"] == "all")
    assert re.search(rf"^all +{float(every['nll']):.3f}$", out, re.M)


def analyze_on_rank(rank: int, world_size: int, arguments: list[str]) -> tuple[int, str]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(["analyze", *arguments])
    return code, printed.getvalue()


@pytest.mark.multirank
def test_ranks_that_share_the_text_find_what_one_process_finds(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the last digit; the experts of this run were spread over two ranks in training."""
    settings = ["--limit", "7", "--set", "smoe.data.max_tokens=128", "--directions", "eng-nso,cat-eng"]
    arguments = [str(trained_run), "--device", "cpu", *settings, "--output"]
    assert main(["analyze", *arguments, str(tmp_path / "one")]) == 0
    page = capsys.readouterr().out
    done = run_ranks(analyze_on_rank, 3, [*arguments, str(tmp_path / "all")], init=False)
    assert done == [(0, page), (0, ""), (0, "")]
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "all" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "all").iterdir())) == len(list((tmp_path / "one").iterdir()))


@pytest.mark.multirank
def test_a_rank_that_cannot_read_ends_all(run_dir: Path, corpus: Corpus, tmp_path: Path) -> None:
    done = run_ranks(analyze_with_a_damaged_copy, 2, run_dir, tmp_path / "out", init=False)
    assert [code for code, _ in done] == [2, 2]
    assert all("analysing eng-nso failed: rank 1: the disk of this rank is damaged" in text for _, text in done)


def analyze_with_a_damaged_copy(rank: int, world_size: int, run_dir: Path, output: Path) -> tuple[int, str]:
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        if rank == 1:
            patch.setattr(ValidationBatches, "__iter__", damaged)
        code = analyze(run_dir, "--directions", "eng-nso", "--output", output)
    return code, said.getvalue()


def damaged(_: object) -> Iterator[Batch]:
    raise DataError("the disk of this rank is damaged")
    yield
