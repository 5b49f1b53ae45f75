"""The reference of keys covers all keys and says something about each."""

from __future__ import annotations

from smoe_ds.config.describe import describe_keys
from smoe_ds.config.load import RunFile
from smoe_ds.config.problems import all_keys, kinds_at, section_of, without_kinds


def test_every_key_is_described_once() -> None:
    described = [key.key for key in describe_keys()]
    paths = [path for path in all_keys(RunFile) if section_of(RunFile, path) is None and not kinds_at(RunFile, path)]
    assert described == [".".join(map(str, without_kinds(RunFile, path))) for path in paths]
    assert len(set(paths)) == len(paths)


def test_descriptions_and_defaults() -> None:
    keys = {key.key: key for key in describe_keys()}
    assert [key.key for key in keys.values() if len(key.text) < 10 or not key.text.endswith(".")] == []
    assert keys["smoe.data.path"].default == "required"
    assert keys["smoe.moe.strata"].default == "[4, 4]"
    assert keys["smoe.moe.num_experts"].default == "null"
    assert keys["zero_optimization.overlap_comm"].default == "-"
