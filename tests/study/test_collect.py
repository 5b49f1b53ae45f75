"""What of a run folder goes into a row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smoe_ds.study.collect import _analysed_capacity, _curve, collect
from smoe_ds.study.spec import StudyRun, load_study
from tests.helpers.environment import ROOT

LOGGED = {
    "train/tokens_per_second": {10: 100.0, 20: 50.0, 30: 200.0},
    "train/seconds_per_step": {10: 1.0, 20: 4.0, 30: 1.0},
    "valid/nll": {15: 4.0, 20: 3.5, 30: 3.0},
}


@pytest.fixture
def run(tmp_path: Path) -> StudyRun:
    file = tmp_path / "study.yaml"
    file.write_text(f"base: {ROOT / 'ds_configs/small_cpu.json'}\noutput: {tmp_path}\nsystems: {{smoe: {{}}}}\n")
    (found,) = load_study(file).runs
    found.folder.mkdir(parents=True)
    return found


def write_history(run: StudyRun, *lines: dict[str, float]) -> None:
    (run.folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_validations_say_tokens_and_time_themselves() -> None:
    progress = {"progress/tokens": {15: 7.0, 20: 8.0, 30: 9.0}, "progress/seconds": {15: 1.0, 20: 2.0, 30: 3.0}}
    assert _curve(LOGGED | progress) == [(15, 7.0, 1.0, 4.0), (20, 8.0, 2.0, 3.5), (30, 9.0, 3.0, 3.0)]


def test_else_they_are_the_sums_of_the_intervals() -> None:
    """Ten steps of 1 s with 100 tokens each, ten of 4 s with 200, ten of 1 s with 200; as far as they were logged."""
    assert _curve(LOGGED) == [(15, 1000.0, 10.0, 4.0), (20, 3000.0, 50.0, 3.5), (30, 5000.0, 60.0, 3.0)]


def test_capacity_by_language_at_the_last_validation(run: StudyRun) -> None:
    """Of the encoder the source's, of the decoder the target's; each direction counts the same."""
    last = {"valid_rc_encoder/eng-nso": 1.0, "valid_rc_encoder/eng-cat": 2.0, "valid_rc_encoder/nso-eng": 3.0}
    last |= {"valid_rc_decoder/eng-nso": 1.5}
    routing = {"moe_requested_capacity/encoder.2": 1.25, "memory/host (GiB)": 2.0, "memory/device (GiB)": 3.0}
    write_history(
        run,
        {"step": 5, **routing, "memory/device (GiB)": 4.0},
        {"step": 5, "valid/nll": 4.0, **dict.fromkeys(last, 9.0)},
        {"step": 9, **routing},
        {"step": 9, "valid/nll": 3.0, "valid/nll/eng-nso": 3.0, **last},
    )
    row = collect(run, "", "", 5)
    assert row.capacity == {"language": {"encoder": {"eng": 1.5, "nso": 3.0}, "decoder": {"nso": 1.5}}}
    assert (row.status, row.chance, row.counts, row.scores) == ("done", [], {}, {})
    assert (row.peak_memory, row.device_memory) == (2 * 2**30, 4 * 2**30)


def test_an_analysis_says_it_of_more_than_languages(run: StudyRun) -> None:
    write_history(run, {"step": 9, "moe_requested_capacity/encoder.2": 1.25, "valid/nll": 3.0})
    folder = run.folder / "analysis"
    folder.mkdir()
    (folder / "analysis.json").write_text("{}")
    header = "side,block,by,group,tokens,requested_capacity\n"
    rows = ("encoder,mean,language,nso,9,1.5", "encoder,2,language,nso,9,1.7", "encoder,mean,frequency,1-10,9,1.25")
    (folder / "capacity.csv").write_text(header + "\n".join((*rows, "encoder,mean,position,1,9,1.1")) + "\n")
    (folder / "chance.csv").write_text("side,by,effect,p,sentences\nencoder,language,0.5,0.01,20\n")
    row = collect(run, "", "", None)
    assert row.capacity == {"language": {"encoder": {"nso": 1.5}}, "frequency": {"encoder": {"1-10": 1.25}}}
    assert row.chance == [{"side": "encoder", "by": "language", "effect": 0.5, "p": 0.01, "sentences": 20}]
    (folder / "analysis.json").write_text('{"step": 9}')
    assert _analysed_capacity(folder, 9) == row.capacity
    assert _analysed_capacity(folder, 5) == {}, "it is of other weights"


def test_a_run_without_a_log_has_failed(run: StudyRun) -> None:
    row = collect(run, "", "no room", None)
    assert (row.status, row.error, row.curve, row.peak_memory) == ("failed", "no room", [], None)
    assert "history.jsonl" in collect(run, "", "", None).error
