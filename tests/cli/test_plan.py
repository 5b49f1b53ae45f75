"""``smoe-ds plan`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smoe_ds.cli.main import main

CONFIGS = Path(__file__).parents[2] / "ds_configs"


@pytest.mark.parametrize("name", ["m4", "m15", "opus100", "quickstart"])
def test_shipped_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(CONFIGS / f"{name}.json")]) == 0
    out = capsys.readouterr().out
    for part in ("parameters", "requested capacity", "FLOPs (forward)", "memory per device", "optimizer"):
        assert part in out


def test_json_and_the_warning_with_the_better_ep_size(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", str(CONFIGS / "m15.json"), "--json", "--world-size", "16", "--set", "smoe.moe.ep_size=8"]
    assert main(words) == 0
    output = capsys.readouterr()
    plan = json.loads(output.out)
    assert plan["flops_per_token"] == pytest.approx(656e6, abs=1e6)
    assert plan["exchange_bytes_per_step"] > 0
    assert "ep_size 4 spreads [4, 12] evenly" in output.err


def test_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--paper", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    keys = {"table", "system", "parameters", "flops_per_token", "published_parameters", "published_flops_per_token"}
    assert all(keys <= set(row) for row in rows)
    assert main(["plan", "--paper"]) == 0
    text = capsys.readouterr().out
    assert "M15 SMoE-4-12" in text and "Stacking 4 2-expert MoE" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which run?"),
        ([str(CONFIGS / "m4.json"), "--vocab-size", "0"], "--vocab-size 0"),
        ([str(CONFIGS / "m4.json"), "--run", "nowhere"], "no log of requested capacities"),
    ],
)
def test_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 2
    assert message in capsys.readouterr().err
