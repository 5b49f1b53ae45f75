"""The names that launch/README.md sets belong together: what prepares the corpus writes what the run reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launch.cli import main
from smoe_ds.config import load_run
from tests.helpers.environment import ROOT
from tests.helpers.listed import write_nllb

README = (ROOT / "launch/README.md").read_text(encoding="utf-8")


def test_the_run_reads_what_the_specification_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = dict(re.findall(r"^([A-Z]+)=(\S+)", README, flags=re.MULTILINE))
    run = load_run(ROOT / names["RUN"])
    text = re.search(r"reads raw text in `(\S+)` and writes `(\S+)`", README)
    assert text is not None and text[2] == run.smoe.data.path and names["DIR"] == run.smoe.train.output_dir
    monkeypatch.chdir(tmp_path)
    command = ["render", names["SPEC"], "--kind", "prepare", "--array", "4", "--time", "4:00:00"]
    assert main(command) == 2
    assert f"  {tmp_path / text[1]}/CORPUS/eng-fur/NAME.eng" in capsys.readouterr().err
    write_nllb(tmp_path / text[1], "m15")
    assert main(command) == 0
    assert f"{tmp_path / run.smoe.data.path}.work/records" in capsys.readouterr().out
