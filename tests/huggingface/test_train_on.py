"""A run with their conventions trains on from weights, is evaluated, and goes out as a model of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from tests.helpers.random_run import random_run
from tests.helpers.small_run import train_here, write_run

pytestmark = pytest.mark.multirank


def test_import_train_evaluate_export(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"source_language_token": "source", "target_language_token": "after_end"}
    sections: dict[str, Any] = {"model": {"position_offset": 2}, "moe": {"strata": []}, "data": data}
    base = random_run(tmp_path, corpus, **sections)
    train = {"output_dir": str(tmp_path / "mine"), "init_from": str(base), "max_steps": 4}
    file = write_run(tmp_path / "mine.json", {"extends": ["run/config.json"], "smoe": {"train": train}})
    code, printed = train_here(file)
    assert code == 0, printed
    assert main(["evaluate", str(tmp_path / "mine"), "--limit", "4", "--device", "cpu"]) == 0
    assert "eng-nso" in capsys.readouterr().out
    exported = ["export", str(tmp_path / "mine"), "--output", str(tmp_path / "out"), "--format", "transformers"]
    assert main(exported) == 0
    assert main(["translate", str(tmp_path / "mine"), "--to", "nso", "--device", "cpu"]) == 2
    assert "name it with --from" in capsys.readouterr().err
