"""``smoe-ds report``: one file with everything that the runs have, legible in a browser; a mistake is one line."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.analysis.routing_analysis import analyse_routing
from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.manifest import read_manifest, write_manifest
from smoe_ds.decode.load import TrainedRun
from smoe_ds.run.history import HistoryFile
from tests.helpers.browser import DESKTOP, LOW_CONTRAST, PHONE, needs_browser, opened
from tests.helpers.environment import ROOT
from tests.helpers.random_run import change_config, random_run
from tests.report.token_view.test_token_view import Reader

SCRIPT = "<script>alert(1)</script>"
HOSTILE = '<script>alert(1)</script> the house & "my" dog'


def report(*arguments: object) -> int:
    return main(["report", *map(str, arguments), "--device", "cpu"])


def read(file: Path) -> Reader:
    return Reader(file.read_text(encoding="utf-8"))


def log(run_dir: Path) -> None:
    """A history, as training writes it."""
    file = HistoryFile(run_dir / "history.jsonl")
    for step in range(1, 6):
        file.append(step, {"train/nll": 7 - step, "moe_requested_capacity/encoder.1": 1 + step / 10})
    file.append(5, {"valid/nll": 2.5, "valid/nll/eng-nso": 2.25, "valid/nll/nso-eng": 2.75})
    file.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> dict[str, Path]:
    """A run that was logged, scored and analysed, one that was not, and a dense one."""
    folder = tmp_path_factory.mktemp("runs")
    moe: dict[str, dict[str, Any]] = {
        "full": {"strata": [2, 2]},
        "bare": {"strata": [1, 2, 3]},
        "dense": {"strata": []},
    }
    made = {}
    for name, settings in moe.items():
        (folder / name).mkdir()
        made[name] = random_run(folder / name, corpus, moe=settings).rename(folder / f"{name}-run")
    log(made["full"])
    common = ("--device", "cpu", "--limit", "2")
    assert main(["evaluate", str(made["full"]), *common, "--split", "test", "--samples", "2"]) == 0
    assert main(["analyze", str(made["full"]), *common]) == 0
    return made


@pytest.fixture(scope="module")
def page(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of all of them."""
    output = tmp_path_factory.mktemp("page") / "deep" / "er" / "report.html"
    assert report(*runs.values(), "--output", output, "--analyze", 20, "--sentence", "eng-nso", HOSTILE) == 0
    return output


def test_one_run_with_everything(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert report(runs["full"]) == 0
    out, _ = capsys.readouterr()
    assert out == f"{runs['full'] / 'report.html'}\n"
    page = read(runs["full"] / "report.html")
    scores = json.loads((runs["full"] / "scores.json").read_text(encoding="utf-8"))
    for signature in scores["signatures"].values():
        assert signature in page.words
    for one in scores["directions"].values():
        assert f"{one['chrf']:.2f}" in page.words
    assert scores["samples"][0]["source"] in page.words
    assert "2.500 (step 5)" in page.words
    assert "2.250" in page.words
    assert "experts in strata 2-2" in page.words
    assert f"smoe-ds train {runs['full']}/config.json --set smoe.train.output_dir=" in page.words
    assert "What is missing here" not in page.words
    assert sum(attributes.get("class") == "token-view" for _, attributes in page.elements) == 2
    assert not any(("href" in a and not str(a["href"]).startswith("#")) or "src" in a for _, a in page.elements)
    assert report(runs["full"]) == 0  # its own page may be replaced


def test_capacity_is_that_of_the_analysis(runs: dict[str, Path], corpus: Corpus, tmp_path: Path) -> None:
    """Where there is none, it is made of so many sentences as are asked for."""
    assert report(runs["bare"], "--output", tmp_path / "r.html", "--analyze", 9, "--examples", 1) == 0
    page = read(tmp_path / "r.html")
    run = TrainedRun(runs["bare"], device="cpu")
    found = analyse_routing(run.translator(run.checkpoint()), corpus, "valid", corpus.directions_of("train"), 9 // 4)
    for side in ("encoder", "decoder"):
        languages = found.capacity(side, "language", "mean")
        high, low = max(languages, key=lambda x: languages[x]), min(languages, key=lambda x: languages[x])
        words = f"{high} takes the most ({languages[high]:.2f}) and {low} the least ({languages[low]:.2f})"
        assert words in page.words
        (test,) = (one for one in found.tests if (one.side, one.by) == (side, "language"))
        assert f"permuted sentences show as much in {test.p:.1%} of draws" in page.words
        for value in found.capacity(side, "direction", "mean").values():
            assert f"{value:.2f}" in page.words
    assert f"smoe-ds evaluate {runs['bare']}" in page.words
    assert f"smoe-ds analyze {runs['bare']}" in page.words
    assert "the first 2 sentences per direction of the validation text" in page.words


def test_an_analysis_by_an_earlier_version(runs: dict[str, Path], tmp_path: Path) -> None:
    own = shutil.copytree(runs["full"], tmp_path / "run", ignore=shutil.ignore_patterns("report.html"))
    (own / "analysis" / "chance.csv").unlink()
    assert report(own, "--examples", 0) == 0
    page = read(own / "report.html")
    assert "takes the most" in page.words
    assert "permuted sentences" not in page.words


def test_nothing_is_computed_if_nothing_is_asked_for(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = shutil.copytree(runs["bare"], tmp_path / "run")
    assert report(own, "--analyze", 0, "--examples", 0) == 0
    assert "analyses" not in capsys.readouterr().err
    page = read(own / "report.html")
    assert "These weights have not been analysed." in page.words
    assert f"requested capacity and experts: smoe-ds analyze {own}" in page.words
    assert "There is no sentence to show" in page.words
    assert "everything that needs weights" not in page.words
    shutil.rmtree(own / "checkpoints")
    assert report(own) == 0
    page = read(own / "report.html")
    assert "These weights have not been analysed." in page.words
    assert "everything that needs weights" in page.words


def test_what_other_weights_gave_is_not_shown(runs: dict[str, Path], tmp_path: Path, corpus: Corpus) -> None:
    """Scores and analysis are of step 1; the page is of steps 1 and 2."""
    own = random_run(tmp_path, corpus, steps=(1, 2), moe={"strata": [2, 2]})
    for name in ("scores.json", "analysis"):
        (shutil.copytree if name == "analysis" else shutil.copy)(runs["full"] / name, own / name)
    first, second = (own / "checkpoints" / f"step_{step:08}" for step in (1, 2))
    none, common = ("--analyze", 0, "--examples", 0), ("--output", tmp_path / "r.html")
    assert report(first, second, *none, *common) == 0
    words = read(tmp_path / "r.html").words
    assert words.count("weights of step 1.") == 3, "scores, losses and routing"
    assert "weights of step 2." not in words
    assert words.count("These weights have not been analysed.") == 2, "capacity and experts of one run"
    assert f"scores ({own}/scores.json is of step 1, not of step 2): smoe-ds evaluate {second}" in words
    assert f"experts ({own}/analysis is of step 1, not of step 2): smoe-ds analyze {second}" in words
    assert report(own, "--checkpoint", "last", "--analyze", 4, "--examples", 1, *common) == 0
    words = read(tmp_path / "r.html").words
    assert "by the weights of step 2" in words and "There are no scores of these weights." in words
    assert f"({own}/analysis is of step 1, not of step 2): smoe-ds analyze {own} --checkpoint last" in words
    assert "by the weights of step 1" not in words


def without_nso(corpus: Corpus, folder: Path) -> Path:
    """The corpus, prepared again without one of its languages."""
    shutil.copytree(corpus.path, folder)
    manifest = read_manifest(folder)
    manifest["pairs"] = [pair for pair in manifest["pairs"] if "nso" not in pair]
    for pairs in (manifest["report"], *manifest["splits"].values()):
        for pair in [pair for pair in pairs if "nso" in pair]:
            del pairs[pair]
    write_manifest(folder, manifest)
    return folder


def test_a_corpus_that_has_lost_a_language(
    runs: dict[str, Path], corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smaller = without_nso(corpus, tmp_path / "smaller")
    run = random_run(tmp_path, corpus, moe={"strata": [4], "router": {"kind": "task", "tasks": 32}})
    change_config(run, "data", "directions", ["eng-nso", "nso-eng", "eng-cat", "cat-eng"])
    change_config(run, "data", "path", str(smaller))
    out = tmp_path / "out"
    assert main(["export", str(run), "--output", str(out), "--directions", "eng-nso", "--device", "cpu"]) == 0
    common = ("--analyze", 4, "--examples", 1, "--output", tmp_path / "r.html")
    capsys.readouterr()
    assert report(run, *common) == 0
    assert f"goes on without eng-nso, nso-eng: {smaller} has no such text" in capsys.readouterr().err
    assert "the first 2 sentences per direction of the validation text" in read(tmp_path / "r.html").words
    assert report(out, *common) == 0  # it translates into nso alone
    err = capsys.readouterr().err
    assert f"goes on without a corpus: {smaller}: has no valid text of a direction" in err
    assert "These weights have not been analysed." in read(tmp_path / "r.html").words
    assert report(out, *common, "--data", smaller) == 2
    assert "name another corpus with --data" in capsys.readouterr().err


def test_side_by_side(page: Path) -> None:
    shown = read(page)
    for name in ("full-run", "bare-run", "dense-run"):
        assert name in shown.words
    assert shown.words.count("This is a dense model: it has no") >= 2
    assert "smoe.moe.strata" in shown.words
    assert HOSTILE in shown.words
    assert sum(tag == "script" for tag, _ in shown.elements) == 2


def test_a_dense_model_shows_its_losses(runs: dict[str, Path], tmp_path: Path) -> None:
    """Made for the report, and as the analysis of the run has left them."""
    own = shutil.copytree(runs["dense"], tmp_path / "run")
    for analysed in (False, True):
        if analysed:
            assert main(["analyze", str(own), "--device", "cpu", "--limit", "2"]) == 0
        assert report(own, "--analyze", 8) == 0
        page = read(own / "report.html")
        assert "This is a dense model: it has no experts, and no requested capacity." in page.words
        assert "Loss by group" in page.words and "Loss by kind of piece" in page.words
        assert "the first 2 sentences per direction of the validation text" in page.words
        assert ("losses by group of more than 2 sentences" in page.words) != analysed
    with (own / "analysis" / "losses.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["by"] in ("direction", "language", "kind", "frequency"):
                assert f"{float(row['nll']):.2f}" in page.words


def test_a_script_in_the_name_of_a_language(runs: dict[str, Path], tmp_path: Path) -> None:
    own = shutil.copytree(runs["full"], tmp_path / "run", ignore=shutil.ignore_patterns("report.html"))
    for file in (*(own / "analysis").glob("*.[cj]s*"), own / "history.jsonl", own / "scores.json"):
        file.write_text(file.read_text(encoding="utf-8").replace("nso", SCRIPT), encoding="utf-8")
    assert report(own, "--examples", 0) == 0
    shown = read(own / "report.html")
    assert shown.words.count(SCRIPT) > 10
    assert sum(tag == "script" for tag, _ in shown.elements) == 2, "the page's own"
    assert not any(
        SCRIPT in str(value) and name.startswith("on") for _, a in shown.elements for name, value in a.items()
    )


def test_a_recipe_to_compare_with(runs: dict[str, Path], tmp_path: Path) -> None:
    common = ("--analyze", 0, "--examples", 0, "--output")
    assert report(runs["full"], *common, tmp_path / "own.html", "--recipe", runs["full"] / "config.json") == 0
    assert "smoe.model.d_model" not in read(tmp_path / "own.html").words.split("The whole configuration")[0]
    assert report(runs["full"], *common, tmp_path / "other.html", "--recipe", runs["bare"] / "config.json") == 0
    words = read(tmp_path / "other.html").words.split("The whole configuration")[0].split("What differs from")[1]
    assert "config.json" in words
    assert "[2, 2]" in words and "[1, 2, 3]" in words
    assert "d_model" not in words


def test_without_the_corpus(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = shutil.copytree(runs["bare"], tmp_path / "run")
    config = (own / "config.json").read_text(encoding="utf-8")
    path = json.loads(config)["smoe"]["data"]["path"]
    (own / "config.json").write_text(config.replace(json.dumps(path), '"/gone"'), encoding="utf-8")
    assert report(own) == 0
    assert "goes on without a corpus: /gone: no such folder" in capsys.readouterr().err
    page = read(own / "report.html")
    assert f"requested capacity and experts: smoe-ds analyze {own}" in page.words
    assert "the token view: smoe-ds report" in page.words
    assert report(own, "--data", path, "--analyze", 4, "--examples", 1) == 0
    assert "takes the most" in read(own / "report.html").words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere"], "/nowhere: no such folder"),
        (["RUN", "RUN"], "is named twice; name each run once"),
        (["RUN", "--output", __file__], "exists and does not hold a report; choose another file"),
        (["RUN", "--output", str(ROOT)], "is a folder; name a file"),
        (["RUN", "--output", f"{__file__}/x.html"], "cannot be created"),
        (["RUN", "--recipe", "/nowhere.json"], "/nowhere.json: no such file"),
        (["RUN", "--sentence", "eng", "x"], "--sentence eng: is no direction"),
        (["RUN", "--sentence", "eng-nso", " "], "the sentence is empty"),
        (["RUN", "--sentence", "eng-xxx", "x"], "no token for language 'xxx'"),
        (["RUN", "--data", "/nowhere"], "/nowhere: no such folder (--data)"),
        (["RUN", "--checkpoint", "7"], "no checkpoint 7 (step_00000007); there are the steps 1"),
    ],
    ids=lambda value: " ".join(value)[-30:] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(
    runs: dict[str, Path], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(runs["bare"].iterdir())
    assert report(*(str(runs["bare"]) if word == "RUN" else word for word in arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert sorted(runs["bare"].iterdir()) == before


@pytest.mark.parametrize(
    ("file", "text", "remedy"),
    [
        ("scores.json", "{}", "run smoe-ds evaluate again, or remove it"),
        ("scores.json", "[1", "run smoe-ds evaluate again, or remove it"),
        ("analysis/analysis.json", "{}", "run smoe-ds analyze again, or remove it"),
        ("analysis/capacity.csv", "side,block\nencoder,x\n", "run smoe-ds analyze again, or remove it"),
        ("analysis/strata.csv", None, "run smoe-ds analyze again, or remove it"),
        ("environment.json", "{", "restore it, or remove it"),
        ("history.jsonl", "{}\n", "line 1: is damaged; remove the line"),
    ],
)
def test_damaged_files_are_named(
    runs: dict[str, Path], file: str, text: str | None, remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = shutil.copytree(runs["full"], tmp_path / "run", ignore=shutil.ignore_patterns("report.html"))
    (own / file).unlink()
    if text is not None:
        (own / file).write_text(text, encoding="utf-8")
    assert report(own, "--examples", 0) == 2
    err = capsys.readouterr().err
    assert str(own / file.split("/")[0]) in err and remedy in err
    assert len(err.splitlines()) == 1
    assert not (own / "report.html").exists()


@needs_browser
@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        (DESKTOP, "light"),
        (PHONE, "dark"),
        pytest.param(DESKTOP, "dark", marks=pytest.mark.slow),
        pytest.param(PHONE, "light", marks=pytest.mark.slow),
    ],
    ids=["desktop-light", "phone-dark", "desktop-dark", "phone-light"],
)
def test_legible_in_a_browser(page: Path, size: tuple[int, int], scheme: str) -> None:
    with opened(page, size, color_scheme=scheme) as shown:
        shown.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert shown.evaluate(LOW_CONTRAST) == []
        shown.keyboard.press("Tab")
        assert shown.evaluate("document.activeElement.textContent") == "Skip to the report"
        reached = set()
        for _ in range(400):
            shown.keyboard.press("Tab")
            name = shown.evaluate("document.activeElement.className || document.activeElement.tagName")
            if name == "BODY":
                break
            reached.add(name)
        assert {"A", "SUMMARY", "scroll", "tv-next", "tv-play", "tv-place", "tv-token"} <= reached


@needs_browser
def test_printable(page: Path, tmp_path: Path) -> None:
    with opened(page, (794, 1123)) as shown:  # A4 at 96 dots per inch
        shown.pdf(path=tmp_path / "report.pdf")
        shown.emulate_media(media="print")
        assert shown.locator("nav").is_hidden()
        assert shown.locator(".tv-controls").first.is_hidden()
    assert (tmp_path / "report.pdf").stat().st_size > 10_000
