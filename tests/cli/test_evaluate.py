"""``smoe-ds evaluate``: table, JSON, translations, samples."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch

from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import TrainedRun
from smoe_ds.decode.translator import Translator
from smoe_ds.report.scores import CUT
from tests.helpers.ranks import run_ranks

DIRECTIONS = ["cat-eng", "eng-cat", "eng-nso", "nso-eng"]


def evaluate(run: Path, *arguments: str) -> int:
    return main(["evaluate", str(run), "--device", "cpu", *arguments])


def scores(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def corpus_text(corpus: Corpus, name: str) -> list[str]:
    return (corpus.path / "text" / name).read_text(encoding="utf-8").splitlines()


def test_everything_is_scored_written_and_printed(
    run_dir: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(run_dir, "--untrained") == 0
    out, err = capsys.readouterr()
    report = scores(run_dir / "scores.json")
    assert list(report["directions"]) == DIRECTIONS
    assert report["checkpoint"] == {"asked": "best", "folder": "step_00000030", "step": 30}
    assert report["decode"]["beam_size"] == 5
    translator, untrained = _both(run_dir)
    for number, direction in enumerate(DIRECTIONS, start=1):
        result = report["directions"][direction]
        pair = direction if direction.startswith("eng") else "-".join(reversed(direction.split("-")))
        source, target = (corpus_text(corpus, f"test.{pair}.{language}") for language in direction.split("-"))
        hypotheses = [t.text for t in translator.translate(source, direction.split("-")[1])]
        written = (run_dir / result["translations"]).read_text(encoding="utf-8")
        assert written == "".join(f"{line}\n" for line in hypotheses)
        assert result["bleu"] == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [target]).score)
        assert result["chrf"] == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [target], word_order=2).score)
        assert result["copied_source"]["bleu"] == pytest.approx(sacrebleu.corpus_bleu(source, [target]).score)
        before = [t.text for t in untrained.translate(source, direction.split("-")[1])]
        assert result["untrained"]["chrf"] == pytest.approx(sacrebleu.corpus_chrf(before, [target], word_order=2).score)
        assert result["sentences"] == len(source) == 20
        assert f"[{number}/4] {direction}: 20 of 20 sentences, " in err
    for signature in report["signatures"].values():
        assert signature in out


def test_table_rows_hold_the_scores(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--limit", "4", "--output", str(tmp_path / "scores.json"), "--untrained", "--bootstrap", "0"]
    assert evaluate(run_dir, *arguments) == 0
    out, report = capsys.readouterr().out, scores(tmp_path / "scores.json")
    rows = {line.split("  ")[0].strip(): line.split()[-7:] for line in out.split("\n\n")[0].splitlines()}
    for name, result in report["directions"].items():
        numbers = (result["bleu"], result["chrf"], result["copied_source"]["bleu"], result["untrained"]["bleu"])
        assert rows[name] == ["4", "0", "13a", *(f"{number:.2f}" for number in numbers)]
    for name, mean in report["averages"].items():
        numbers = (mean["bleu"], mean["chrf"], mean["copied_bleu"], mean["untrained_bleu"])
        assert rows[f"mean of {mean['directions']} {name}"][-4:] == [f"{number:.2f}" for number in numbers]
    assert list(report["averages"]) == ["eng-xxx", "xxx-eng", "all"]
    to_others = [report["directions"][name]["bleu"] for name in ("eng-cat", "eng-nso")]
    assert report["averages"]["eng-xxx"]["bleu"] == pytest.approx(sum(to_others) / 2)


def test_samples_come_from_different_directions(
    run_dir: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "here.json"
    assert evaluate(run_dir, "--split", "valid", "--output", str(output), "--samples", "3") == 0
    samples = scores(output)["samples"]
    assert [sample["direction"] for sample in samples] == DIRECTIONS[:3]
    out = capsys.readouterr().out
    for sample in samples:
        language = sample["direction"].split("-")[1]
        pair = "eng-cat" if "cat" in sample["direction"] else "eng-nso"
        line = corpus_text(corpus, f"valid.{pair}.{language}").index(sample["reference"])
        hypotheses = (tmp_path / "here.translations" / f"valid.{sample['direction']}.txt").read_text(encoding="utf-8")
        assert hypotheses.splitlines()[line] == sample["translation"]
        assert all(sample[part] in out for part in ("source", "translation", "reference"))


def test_directions_data_and_settings(
    run_dir: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(corpus.path, moved)
    output = tmp_path / "scores.json"
    arguments = ["--directions", "nso-eng", "--data", str(moved), "--output", str(output), "--limit", "2"]
    assert evaluate(run_dir, *arguments, "--beam", "1", "--tokenize", "char", "--checkpoint", "60") == 0
    report = scores(output)
    assert list(report["directions"]) == ["nso-eng"]
    assert report["averages"] == {}
    assert (report["decode"]["beam_size"], report["limit"], report["checkpoint"]["step"]) == (1, 2, 60)
    assert "tok:char" in report["signatures"]["BLEU"]
    assert report["directions"]["nso-eng"]["untrained"] is None
    assert capsys.readouterr().out.count("sample ") == 2, "two sentences give two samples, not five"


def test_sources_that_were_cut_are_told(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--directions", "eng-nso,eng-cat", "--output", str(tmp_path / "scores.json"), "--limit", "9"]
    assert evaluate(run_dir, *arguments, "--beam", "1", "--set", "smoe.model.max_positions=9") == 0
    (out, err), report = capsys.readouterr(), scores(tmp_path / "scores.json")
    rows = {line.split()[0]: line.split()[1:4] for line in out.splitlines() if line}
    for direction in ("eng-nso", "eng-cat"):
        number = report["directions"][direction]["truncated"]
        assert number > 0
        assert rows[direction] == ["9", str(number), "13a"]
        assert f"{direction}: {number} of 9 sources are longer than the 9 tokens that the model takes" in err
    assert CUT in out


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", "link"])
def test_only_scores_are_replaced(run_dir: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the pen in --output must not cost the run its configuration."""
    file = run_dir / name
    if name == "link":
        file.symlink_to("config.json")
    before = file.read_bytes()
    assert evaluate(run_dir, "--limit", "1", "--directions", "eng-nso", "--output", str(file)) == 2
    assert "exists and does not hold the scores of an evaluation; choose another file" in capsys.readouterr().err
    assert file.read_bytes() == before
    if name == "link":
        file.unlink()


def test_scores_of_another_kind_are_not_replaced_without_a_word(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def noted(*arguments: str) -> str:
        assert evaluate(run_dir, "--limit", "1", *arguments) == 0
        return "".join(line for line in capsys.readouterr().err.splitlines() if "replaces" in line)

    output = ["--output", str(tmp_path / "scores.json"), "--directions"]
    assert noted(*output, "eng-nso,eng-cat") == "" == noted(*output, "eng-nso,eng-cat")
    text = noted(*output, "eng-nso", "--beam", "1", "--checkpoint", "60")
    assert "which were of checkpoint step_00000030, beam_size 5, eng-cat too; to keep both" in text
    kept = (tmp_path / "translations/test.eng-nso.txt").read_bytes()
    other = ["--output", str(tmp_path / "beam5.json"), "--directions", "eng-nso"]
    assert noted(*other) == ""
    assert (tmp_path / "translations/test.eng-nso.txt").read_bytes() == kept
    written = scores(tmp_path / "beam5.json")["directions"]["eng-nso"]["translations"]
    assert written == "beam5.translations/test.eng-nso.txt" and (tmp_path / written).is_file()


def test_scores_and_empty_files_are_replaced(run_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.json"
    output.touch()
    for limit in ("1", "2"):
        assert evaluate(run_dir, "--limit", limit, "--directions", "eng-nso", "--output", str(output)) == 0
        assert scores(output)["limit"] == int(limit)


def evaluate_on_rank(rank: int, world_size: int, arguments: list[str]) -> tuple[int, str]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(["evaluate", *arguments])
    return code, printed.getvalue()


def without_times(path: Path) -> dict[str, Any]:
    report = scores(path)
    for result in report["directions"].values():
        del result["seconds"]
    return report


@pytest.mark.multirank
@pytest.mark.parametrize("world_size", [3, 6])
def test_ranks_that_share_the_directions_give_what_one_process_gives(
    world_size: int, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(run_dir), "--device", "cpu", "--untrained", "--limit", "7", "--output"]
    assert main(["evaluate", *arguments, str(tmp_path / "one/scores.json")]) == 0
    table = capsys.readouterr().out
    together = [*arguments, str(tmp_path / "all/scores.json")]
    done = run_ranks(evaluate_on_rank, world_size, together, init=False)
    assert done == [(0, table), *[(0, "")] * (world_size - 1)]
    assert without_times(tmp_path / "all/scores.json") == without_times(tmp_path / "one/scores.json")
    for direction in DIRECTIONS:
        name = f"translations/test.{direction}.txt"
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


@pytest.mark.multirank
def test_a_run_of_the_train_command(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What two ranks that share the experts wrote is one model here, and both commands find it."""
    assert evaluate(trained_run, "--directions", "eng-nso", "--untrained") == 0
    report = scores(trained_run / "scores.json")
    assert report["checkpoint"]["step"] == 4
    trained, untrained = (dict(t.model.named_parameters()) for t in _both(trained_run))
    assert trained.keys() == untrained.keys()
    assert all(not torch.equal(trained[name], untrained[name]) for name in trained)
    (tmp_path / "in").write_text("The house sees snow.\n\n", encoding="utf-8")
    files = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(["translate", str(trained_run), "--to", "nso", "--device", "cpu", *files]) == 0
    assert (tmp_path / "out").read_text(encoding="utf-8").count("\n") == 2


def _both(run_dir: Path) -> tuple[Translator, Translator]:
    run = TrainedRun(run_dir, device="cpu")
    return run.translator(run.checkpoint()), run.untrained_translator()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--directions", "eng-xyz"], "no direction 'eng-xyz'; it has cat-eng"),
        (["--data", "/nowhere/corpus"], "/nowhere/corpus: no such folder (--data)"),
        (["--set", "smoe.data.path=/nowhere/corpus"], "name the prepared corpus with --data DIR"),
        (["--output", "/proc/scores/here.json"], "choose another place with --output"),
        (["--split", "train"], "invalid choice"),
        (["--directions", ","], "names none; the corpus has cat-eng"),
        (["--output", "/tmp"], "is a folder; name a file"),
    ],
)
def test_mistakes_are_named(
    run_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert evaluate(run_dir, *arguments) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == "" and "Traceback" not in err
