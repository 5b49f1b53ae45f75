"""``smoe-ds study`` with real runs: trained, killed, gone on with, compared."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from smoe_ds.run.history import read_history
from smoe_ds.study.row import Row, append_row, read_rows
from tests.helpers.environment import ROOT

SMALL = ROOT / "ds_configs/studies/small.yaml"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "smoe_ds", "study", *arguments]


def settings(corpus: Path) -> list[str]:
    keys = {
        "smoe.data.path": str(corpus),
        "smoe.train.max_steps": 3,
        "smoe.train.warmup_steps": 2,
        "smoe.train.validate_every": 2,
        "smoe.train.log_every": 1,
        "smoe.data.max_tokens": 256,
        "smoe.data.window": 512,
        "smoe.model.d_model": 16,
        "smoe.model.d_ffn": 24,
    }
    return [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]


def study_file(folder: Path) -> Path:
    """The shipped study with two systems, one of which cannot train."""
    file = folder / "study.yaml"
    file.write_text(
        f"base: {ROOT / 'ds_configs/small_cpu.json'}\n"
        f"output: {folder / 'out'}\n"
        "seeds: [1, 2]\n"
        "against: vanilla\n"
        "systems:\n"
        "  vanilla: {smoe.moe.strata: [4]}\n"
        "  broken: {smoe.moe.strata: [2, 2], smoe.train.init_from: /nowhere}\n"
        "seeds_of: {broken: [1]}\n"
        "evaluate: {limit: 2}\n"
    )
    return file


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path) -> tuple[Path, list[str]]:
    """A study that was stopped while it trained and was gone on with."""
    folder = tmp_path_factory.mktemp("study")
    arguments = [str(study_file(folder)), *settings(corpus_folder)]
    process = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "training in" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(200) == 75
    assert not [row for row in read_rows(folder / "out/results.jsonl") if row.status == "failed"]
    ended = subprocess.run(command(*arguments, "--jobs", "2"), capture_output=True, text=True, timeout=600)
    assert ended.returncode == 1, ended.stderr  # one run failed
    return folder, arguments


def test_rows_say_what_the_runs_gave(trained: tuple[Path, list[str]]) -> None:
    rows = {(row.system, row.seed): row for row in read_rows(trained[0] / "out/results.jsonl")}
    assert set(rows) == {("vanilla", 1), ("vanilla", 2), ("broken", 1)}
    assert rows["broken", 1].status == "failed"
    assert "/nowhere" in rows["broken", 1].error
    one = rows["vanilla", 1]
    assert one.steps == 3
    assert [point[0] for point in one.curve] == [2, 3]
    assert one.mean_nll == pytest.approx(one.curve[-1][3])
    assert one.requested_capacity == 1.0
    assert one.scores.keys() == one.counts.keys() == one.nll.keys()
    assert {counts.sentences for counts in one.counts.values()} == {2}
    history = [json.loads(line) for line in (Path(one.folder) / "history.jsonl").read_text().splitlines()]
    last = [line for line in history if "valid/nll" in line][-1]
    assert {name: last[f"valid/nll/{name}"] for name in one.nll} == one.nll
    assert one.capacity["language"].keys() == {"encoder", "decoder"} and not one.chance
    assert one.identity is not None and one.identity.corpus is not None and one.identity.ranks == 1
    assert one.peak_memory is not None and one.peak_memory > 2**26 and one.device_memory is None


def test_curves_have_the_tokens_and_seconds_of_the_steps(trained: tuple[Path, list[str]]) -> None:
    """Also of the run that was stopped and gone on with."""
    for row in read_rows(trained[0] / "out/results.jsonl"):
        if row.status == "done":
            history = read_history(Path(row.folder) / "history.jsonl")
            speed, seconds = (history[f"train/{name}"] for name in ("tokens_per_second", "seconds_per_step"))
            by_step = {step: (speed[step] * seconds[step], seconds[step]) for step in speed}  # logged at every step
            for step, tokens, taken, _ in row.curve:
                assert tokens == pytest.approx(sum(by_step[at][0] for at in range(1, step + 1)), rel=1e-6)
                assert taken == pytest.approx(sum(by_step[at][1] for at in range(1, step + 1)), rel=1e-6)


def test_a_second_start_trains_only_what_failed(trained: tuple[Path, list[str]]) -> None:
    folder, arguments = trained
    before = {row.key: row.started for row in read_rows(folder / "out/results.jsonl")}
    again = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300)
    assert "3 runs, 1 of them still to be trained" in again.stderr
    after = {row.key: row.started for row in read_rows(folder / "out/results.jsonl")}
    assert {key for key in before if before[key] == after[key]} >= {key for key in before if key[0] == "vanilla"}
    assert "vanilla" in again.stdout
    assert "failed: broken seed 1: " in again.stdout


def test_list_and_report(trained: tuple[Path, list[str]]) -> None:
    _, arguments = trained
    listed = subprocess.run(command(*arguments, "--dry-run"), capture_output=True, text=True, timeout=200)
    assert listed.stdout.count(" done ") == 2
    assert "still to be trained: " in listed.stdout and "by FLOPs per second of other runs" in listed.stdout
    shown = subprocess.run(
        command(*arguments, "--report", "--format", "json"), capture_output=True, text=True, timeout=200
    )
    assert [one["name"] for one in json.loads(shown.stdout)["systems"]] == ["vanilla", "broken"]
    assert 'content="smoe-ds study"' in (trained[0] / "out/report.html").read_text()


def test_rows_are_made_again_from_the_folders(trained: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, arguments = trained
    out = shutil.copytree(folder / "out", tmp_path / "out")
    before = read_rows(out / "results.jsonl")
    (out / "results.jsonl").unlink()
    for row in before:
        append_row(out / "results.jsonl", replace(row, counts={}, curve=[], levels={}))
    made = subprocess.run(
        command(*arguments, "--output", str(out), "--collect"), capture_output=True, text=True, timeout=200
    )
    assert "made 2 of 3 rows again" in made.stderr
    after = {row.key: row for row in read_rows(out / "results.jsonl")}
    moved = {row.key: replace(after[row.key], folder=row.folder, settings=row.settings) for row in before}
    assert list(moved.values()) == before


def test_a_study_without_rows_has_no_report(tmp_path: Path, corpus_folder: Path) -> None:
    file = study_file(tmp_path)
    found = subprocess.run(
        command(str(file), *settings(corpus_folder), "--report"), capture_output=True, text=True, timeout=200
    )
    assert found.returncode == 2
    assert "has no row of this study yet" in found.stderr


def test_three_steps_of_the_shipped_study(tmp_path: Path, corpus_folder: Path) -> None:
    arguments = [str(SMALL), *settings(corpus_folder), "--output", str(tmp_path), "--jobs", "2"]
    tree = yaml.safe_load(SMALL.read_text())
    systems = ["dense", "smoe-2-2-2-2"]
    changes = {"base": str(SMALL.parent / tree["base"]), "seeds": [1], "seeds_of": {}, "against": "dense"}
    changes |= {"systems": {name: tree["systems"][name] for name in systems}}
    changes |= {name: tree[name] | {"limit": 2} for name in ("evaluate", "analyze")}
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(tree | changes, sort_keys=False))
    ended = subprocess.run(command(str(file), *arguments[1:]), capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    rows = {row.system: row for row in read_rows(tmp_path / "results.jsonl")}
    assert set(rows) == set(systems)
    assert all(row.steps == 3 and row.counts for row in rows.values())
    assert rows["smoe-2-2-2-2"].chance and not rows["dense"].chance
    assert rows["smoe-2-2-2-2"].capacity.keys() == {"language", "frequency"}
    assert "requested capacity: is it more than chance?" in ended.stdout


def test_a_row_that_was_cut_is_passed_over_and_a_later_one_counts(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    for status in ("failed", "done"):
        append_row(file, Row("a", "", 1, "f", status))
    with file.open("a") as out:
        out.write('{"system": "b", "vari')
    assert [(row.system, row.status) for row in read_rows(file)] == [("a", "done")]
    append_row(file, Row("c", "", 1, "f", "done"))  # on a line of its own
    assert [(row.system, row.status) for row in read_rows(file)] == [("a", "done"), ("c", "done")]


def test_what_goes_wrong_beside_the_runs_is_told(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the study with its error instead of a worker without a word."""
    from smoe_ds.study import runner
    from smoe_ds.study.spec import load_study

    def no_room(file: Path, row: Row) -> None:
        raise OSError("no room")

    monkeypatch.setattr(runner, "append_row", no_room)
    study = load_study(study_file(tmp_path), {"smoe.data.path": str(corpus_folder), "smoe.train.init_from": "/nowhere"})
    with pytest.raises(OSError, match="no room"):
        runner.Runner(study, 1, lambda text: None).run()


def test_a_run_that_fails_in_another_process_is_not_tried_again_at_once(tmp_path: Path, corpus_folder: Path) -> None:
    """Tasks of an array share one list: what one of them has tried since the others began, these leave."""
    from smoe_ds.study import runner
    from smoe_ds.study.spec import load_study

    study = load_study(study_file(tmp_path), {"smoe.data.path": str(corpus_folder), "smoe.train.init_from": "/nowhere"})
    said: list[str] = []
    task = runner.Runner(study, 1, said.append)
    for run in study.runs[:-1]:
        row = Row(run.system, run.variant, run.seed, run.fingerprint, "failed", started=runner._now())
        append_row(study.results, row)
    assert task.run()
    assert [line.split(":")[0] for line in said if "training in" in line] == ["vanilla seed 2"]
    assert len(read_rows(study.results)) == 3
    assert len(runner.Runner(study, 1, said.append).waiting) == 3, "the next start tries them again"
