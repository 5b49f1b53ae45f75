"""What a list of runs says of the hours that they take: measured, predicted, or plainly that nobody knows."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from smoe_ds.cli.main import command_module
from smoe_ds.errors import ConfigError
from smoe_ds.report.study.runs import runs_table
from smoe_ds.scaling.collectives import Topology
from smoe_ds.scaling.constants import Constant, Constants
from smoe_ds.scaling.line import Line
from smoe_ds.scaling.predict import predict
from smoe_ds.study.hours import Source, hours_of
from smoe_ds.study.row import Row
from smoe_ds.study.spec import Study, load_study
from tests.helpers.environment import ROOT

BASE = ROOT / "ds_configs/small_cpu.json"
KINDS = ("dense", "expert", "routing", "memory", "update", "host_update", "transfer", "read", "draw")
CONSTANTS = Constants("cpu", "cpu", "fp32", {kind: Constant(Line(1e-4, 1e9), True) for kind in KINDS})


@pytest.fixture
def study(tmp_path: Path) -> Study:
    file = tmp_path / "study.yaml"
    systems = "systems: {dense: {smoe.moe.strata: []}, vanilla: {smoe.moe.strata: [8]}}"
    file.write_text(f"base: {BASE}\noutput: {tmp_path}\nsettings: {{smoe.train.max_steps: 7200}}\n{systems}\n")
    return load_study(file)


def ended(study: Study, system: str) -> Row:
    run = next(run for run in study.runs if run.system == system)
    return Row(system, "", 1, run.fingerprint, "done", seconds_per_step=0.5, tokens_per_second=1e4, flops_per_token=2e6)


def test_of_a_system_that_has_run(study: Study) -> None:
    row = ended(study, "dense")
    found = hours_of(study.runs[0], [row], [row], CONSTANTS)
    assert (found.hours, found.source) == (1.0, Source.SAME_SYSTEM)


def test_by_the_calibration(study: Study) -> None:
    row, vanilla = ended(study, "dense"), study.runs[1]
    found = hours_of(vanilla, [row], [row], CONSTANTS)
    step = predict(vanilla.config, 32000, CONSTANTS, Topology(1, 1)).step.seconds
    assert found.source is Source.PREDICTED
    assert found.hours == pytest.approx(2 * step)


def test_by_the_speed_of_others(study: Study) -> None:
    row, vanilla = ended(study, "dense"), study.runs[1]
    found = hours_of(vanilla, [row], [row], None)
    assert found.source is Source.OTHER_SYSTEMS
    assert hours_of(vanilla, [], [row], None) == found, "runs with other settings tell speeds too"
    assert hours_of(vanilla, [], [], None) is None


def test_a_limit_of_time_is_one_of_hours(tmp_path: Path, study: Study) -> None:
    limited = load_study(study.file, {"smoe.train.max_minutes": 6.0})
    assert hours_of(limited.runs[0], [ended(limited, "dense")], [], None).hours == 0.1


def test_the_list_says_where_hours_are_from_and_what_is_not_known(study: Study) -> None:
    row = ended(study, "dense")
    hours = [hours_of(run, [row], [row], CONSTANTS) for run in study.runs]
    text = runs_table(study, ["done", "to be trained"], hours, 2).text()
    assert "p: predicted by the calibration" in text
    assert (
        f"still to be trained: {hours[1].hours:.1f} hours, one run at a time, {hours[1].hours / 2:.1f} with 2 at once"
        in text
    )
    text = runs_table(study, ["to be trained"] * 2, [None, None], 1).text()
    assert "no hours: there is no calibration and no run has ended; to have one: smoe-ds calibrate" in text
    assert "still to be trained" not in text
    words = shlex.split(text[text.index("calibrate ") :].splitlines()[0])
    parser = argparse.ArgumentParser()
    command_module("calibrate").add_arguments(parser)
    asked = parser.parse_args(words[1:])
    assert (asked.output, asked.overrides) == (study.constants, ["smoe.train.max_steps=7200", "smoe.moe.strata=[8]"])
    assert "no hours of 1 runs" in runs_table(study, ["to be trained"] * 2, [None, hours[1]], 1).text()
    assert "nothing is left to be trained" in runs_table(study, ["done"] * 2, hours, 1).text()


def test_constants_of_another_precision_are_refused(study: Study) -> None:
    with pytest.raises(ConfigError, match="runs in fp32, the constants of cpu are of bf16"):
        hours_of(study.runs[0], [], [], Constants("cpu", "cpu", "bf16", CONSTANTS.lines))
