"""The exported folder: round trip, dtypes, damage; and a place that is taken stays as it is."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.errors import CheckpointError
from smoe_ds.run.exported import as_export
from smoe_ds.weights.export import _digest, cast, read_export, read_export_weights, write_export

WEIGHTS = {"a.w": torch.randn(3, 4), "a.b": torch.tensor([0.0, -0.0, 1e-30]), "steps": torch.tensor([70001.0, -3.0])}


def write(folder: Path, weights: dict[str, torch.Tensor], **settings: Any) -> Path:
    (folder / "vocabulary").write_bytes(b"words")
    defaults: dict[str, Any] = {"step": 12, "dtype": "float32", "source": {"folder": "/runs/x"}, "removed_experts": {}}
    return write_export(folder / "out", {"smoe": {"é": 1}}, folder / "vocabulary", weights, **defaults | settings)


def test_round_trip(tmp_path: Path) -> None:
    removed = {"encoder.layers.1.ffn": [0, 3]}
    folder = write(tmp_path, WEIGHTS, removed_experts=removed, pruning={"rule": {"number": 2}})
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "export.json",
        "model.safetensors",
        "tokenizer.model",
    ]
    assert list(tmp_path.glob("*.tmp-*")) == []
    export = read_export(folder)
    assert (export.step, export.dtype, export.removed_experts) == (12, "float32", {"encoder.layers.1.ffn": (0, 3)})
    found = read_export_weights(export)
    assert {n: t.numpy().tobytes() for n, t in found.items()} == {n: t.numpy().tobytes() for n, t in WEIGHTS.items()}
    content = json.loads((folder / "export.json").read_text("utf-8"))
    assert content["source"] == {"folder": "/runs/x"} and content["pruning"] == {"rule": {"number": 2}}
    assert content["versions"]["torch"] == importlib.metadata.version("torch")
    assert json.loads((folder / "config.json").read_text("utf-8")) == {"smoe": {"é": 1}}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_leaves_whole_numbers_alone(dtype: str) -> None:
    result = cast(WEIGHTS, dtype, {"steps"})
    assert torch.equal(result["a.w"], WEIGHTS["a.w"].to(getattr(torch, dtype)))
    assert result["a.w"].dtype == getattr(torch, dtype)
    assert result["steps"].tolist() == [70001.0, -3.0]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"steps: 70001 is too large for float16; export it as bfloat16"):
        cast(WEIGHTS, "float16", ())


def test_an_export_is_known_by_its_folder_and_its_files(tmp_path: Path) -> None:
    folder = write(tmp_path, WEIGHTS)
    assert as_export(folder) == folder
    assert as_export(folder / "model.safetensors") == folder
    assert as_export(folder / "nothing") is None
    assert as_export(tmp_path) is None


@pytest.mark.parametrize("name", ["config.json", "export.json", "model.safetensors", "tokenizer.model"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_damage_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    folder = write(tmp_path, WEIGHTS)
    file = folder / name
    content = bytearray(file.read_bytes())
    if damage == "delete":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=name):
        read_export_weights(read_export(folder))


@pytest.mark.parametrize("name", ["../evil.safetensors", "/etc/passwd", "a/b", "..", 5, None])
def test_an_export_names_only_files_in_its_folder(tmp_path: Path, name: Any) -> None:
    """Though its digest fits."""
    folder = write(tmp_path, WEIGHTS)
    content = json.loads((folder / "export.json").read_text("utf-8"))
    del content["digest"]
    content["files"][0]["name"] = name
    content["digest"] = _digest(content)
    (folder / "export.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(CheckpointError, match=r"export.json: names a file outside of the folder \("):
        read_export(folder)
    (folder / "export.json").write_text("[" * 5000)
    with pytest.raises(CheckpointError, match=r"export.json: cannot be read \(RecursionError"):
        read_export(folder)


def test_a_taken_place_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path, WEIGHTS)
    before = (tmp_path / "out" / "export.json").read_bytes()
    with pytest.raises(CheckpointError, match="is there already"):
        write(tmp_path, {"other": torch.zeros(1)})
    assert (tmp_path / "out" / "export.json").read_bytes() == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "vocabulary").write_bytes(b"words")
    with pytest.raises(CheckpointError, match=r"cannot be written: .*choose another --output"):
        write_export(
            Path("/proc/nowhere/out"),
            {},
            tmp_path / "vocabulary",
            WEIGHTS,
            step=1,
            dtype="float32",
            source={},
            removed_experts={},
        )
