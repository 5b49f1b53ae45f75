"""The benchmark of translation runs, and compares what is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tests.benchmarks import decode_products
from tests.benchmarks.decode import main


@pytest.mark.slow
def test_systems_translate_in_turns(tmp_path: Path) -> None:
    others = ["M2M100 (transformers)", "NLLB-MoE (transformers)"] if importlib.util.find_spec("transformers") else []
    others += ["CTranslate2 int8"] if others and importlib.util.find_spec("ctranslate2") else []
    sizes = ["--width", "16", "--layers", "2", "--vocabulary", "60", "--batches", "2", "--repeats", "2"]
    main([*sizes, "--systems", "dense", "2-2-2-2", *others, "--json", str(tmp_path / "rows.json")])
    rows = {row["system"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert set(rows) == {"dense", "2-2-2-2", *others}
    assert rows["dense"]["speed over dense"] == 1.0
    assert rows["2-2-2-2"]["speed over dense"] > 0


@pytest.mark.slow
def test_products_are_those_of_the_translation(tmp_path: Path) -> None:
    sizes = ["--width", "16", "--layers", "2", "--vocabulary", "60", "--batches", "2", "--repeats", "1"]
    decode_products.main([*sizes, "--systems", "2-2-2-2", "--json", str(tmp_path / "rows.json")])
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["system"] == "2-2-2-2" and 0 < row["products (ms)"] < row["ms"]
    rows = decode_products.row("a", 1, [(8.0, 5.0)], [(4.0, 2.0)])
    assert (rows["speed over dense"], rows["over dense and extra products"]) == (0.5, round(8 / 7, 3))
    assert rows["extra over extra products"] == round(4 / 3, 3)
