"""The benchmark of checkpoints runs, and compares like with like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.benchmarks.checkpoint import main, read_and_hash, write_plain


@pytest.mark.multirank
def test_checkpoint_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    main(["--mib", "16", "--repeats", "2", "--stage", "1", "--folder", str(tmp_path), "--json", str(file)])
    rows = json.loads(file.read_text())
    assert [(row["world_size"], row["ep_size"]) for row in rows] == [(1, 1), (2, 2)]
    for row in rows:
        assert row["mib"] == pytest.approx(16 * row["world_size"], rel=0.5)
        assert 1 <= row["most_of_a_rank"] < 1.5
        measured = ("read_hash_ms", "plain_ms", "save_over_plain", "save_cpu_ms", "plain_cpu_ms")
        assert min(row[name] for name in measured) > 0
    assert "save_over_plain" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_plain_files_hold_the_same_bytes(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state = [{"a": torch.randn(3, 4)}, {"b": torch.randn(5)}]
    write_plain(tmp_path / "plain", state, 0)
    for number, tensors in enumerate(state):
        found = load_file(tmp_path / "plain" / f"{number}-0.safetensors")
        assert found.keys() == tensors.keys() and all(torch.equal(found[name], t) for name, t in tensors.items())
    read_and_hash(tmp_path / "plain", 0, 1)
