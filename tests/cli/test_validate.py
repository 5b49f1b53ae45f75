"""``smoe-ds validate``: the resolved run on stdout, or every error on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smoe_ds.cli.main import main
from smoe_ds.config import load_run
from tests.helpers.environment import ROOT

CONFIGS = ROOT / "ds_configs"
M4 = str(CONFIGS / "m4.json")
NO_CORPUS = (
    "smoe.data.path: there is no corpus in data/m4 yet; make it with `python -m data_prep SPEC.yaml --output DIR`, "
    "or correct smoe.data.path\n"
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that holds no data/m4."""
    monkeypatch.chdir(tmp_path)


def test_prints_the_resolved_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["validate", M4, "--set", "smoe.moe.strata=[2,6]"]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"{M4}: valid\n{NO_CORPUS}"
    resolved = json.loads(captured.out)
    assert resolved["smoe"]["moe"]["strata"] == [2, 6]
    assert resolved["gradient_clipping"] == 0.0
    assert resolved["fp16"]["enabled"] is True
    assert "extends" not in resolved
    (tmp_path / "again.json").write_text(captured.out)
    assert load_run(tmp_path / "again.json") == load_run(M4, ["smoe.moe.strata=[2,6]"])


def test_prints_every_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", M4, "--set", "smoe.moe.stata=[2]", "--set", "gradient_cliping=1"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "--set: gradient_cliping: unknown key; did you mean gradient_clipping?\n"
        "--set: smoe.moe.stata: unknown key; did you mean smoe.moe.strata?\n"
    )


def test_world_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", M4, "--world-size", "8"]) == 0
    assert capsys.readouterr().err == f"{M4}: valid on 8 ranks, with gradient_accumulation_steps 4\n{NO_CORPUS}"
    assert main(["validate", M4, "--world-size", "7"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"{M4}: train_batch_size: 32 micro-batches a step cannot be shared by 7 ranks; "
        "set it to 28 or 35, or start 4 or 8 ranks\n"
    )
    assert main(["validate", M4, "--world-size", "0"]) == 2
    assert "expected 1 or more ranks" in capsys.readouterr().err


def test_a_corpus_that_is_there_needs_no_note(capsys: pytest.CaptureFixture[str], corpus_folder: Path) -> None:
    assert main(["validate", M4, "--set", f"smoe.data.path={corpus_folder}"]) == 0
    assert capsys.readouterr().err == f"{M4}: valid\n"


def test_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--keys"]) == 0
    assert "smoe.moe.ep_size  [1]\n    Expert-parallel size" in capsys.readouterr().out


def test_nothing_to_validate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate"]) == 2
    assert "which run?" in capsys.readouterr().err
