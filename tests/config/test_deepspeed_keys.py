"""Our lists of DeepSpeed's keys against what the installed DeepSpeed reads."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import BaseModel

from smoe_ds.config.deepspeed_keys import REFUSED
from smoe_ds.config.deepspeed_sections import DeepSpeedSections
from smoe_ds.config.problems import section_of

OURS_ONLY_TOP = {"data_parallel_size", "sequence_parallel_size"}  # read by deepspeed.initialize, see below


class _Keys:
    def __init__(self, spy: _Spy) -> None:
        self.spy = spy

    def __contains__(self, key: object) -> bool:
        return key in self.spy

    def __iter__(self) -> Any:
        return dict.__iter__(self.spy)


class _Spy(dict):  # type: ignore[type-arg]
    """A dict that remembers which keys it was asked for."""

    asked: set[str]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked = set()

    def __copy__(self) -> _Spy:
        return self

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def keys(self) -> Any:
        return _Keys(self)


def ours(section: str = "") -> set[str]:
    """Keys of a section (dotted; empty: the top level) that we know: fields and refused ones."""
    model = section_of(DeepSpeedSections, tuple(section.split(".")) if section else ())
    assert model is not None
    prefix = f"{section}." if section else ""
    refused = {key[len(prefix) :] for key in REFUSED if key.startswith(prefix)}
    return set(model.model_fields) | {key for key in refused if "." not in key}


def test_top_level_keys_are_deepspeeds() -> None:
    from deepspeed.runtime.config import DeepSpeedConfig

    spy = _Spy({"train_batch_size": 1})
    DeepSpeedConfig(spy)
    assert ours() - OURS_ONLY_TOP == spy.asked


def test_keys_that_initialize_reads_are_known() -> None:
    import deepspeed

    read: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(deepspeed.initialize))):
        read |= set(_keys_read_from(node, "config"))
    assert read >= OURS_ONLY_TOP
    assert ours() >= read


def _keys_read_from(node: ast.AST, name: str) -> Iterable[str]:
    match node:
        case ast.Subscript(value=ast.Name(id=found), slice=ast.Constant(value=str() as key)) if found == name:
            yield key
        case ast.Call(func=ast.Attribute(value=ast.Name(id=found), attr="get"), args=[ast.Constant(value=key), *_]) if (
            found == name
        ):
            yield str(key)
        case ast.Compare(left=ast.Constant(value=str() as key), comparators=[ast.Name(id=found)]) if found == name:
            yield key


def _pydantic_sections() -> list[tuple[str, type[BaseModel]]]:
    from deepspeed.comm.config import CommsLoggerConfig
    from deepspeed.monitor.config import CSVConfig, WandbConfig
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.offload_config import DeepSpeedZeroOffloadOptimizerConfig
    from deepspeed.utils.config import DeepSpeedThroughputTimerConfig

    return [
        ("zero_optimization", DeepSpeedZeroConfig),
        ("zero_optimization.offload_optimizer", DeepSpeedZeroOffloadOptimizerConfig),
        ("fp16", DeepSpeedFP16Config),
        ("bf16", DeepSpeedBF16Config),
        ("comms_logger", CommsLoggerConfig),
        ("csv_monitor", CSVConfig),
        ("wandb", WandbConfig),
        ("timers.throughput", DeepSpeedThroughputTimerConfig),
    ]


def test_keys_of_sections_are_deepspeeds() -> None:
    from deepspeed.runtime.config import _REMOVED_ZERO_CONFIG_KEYS

    for section, model in _pydantic_sections():
        theirs = set(model.model_fields) | {info.alias for info in model.model_fields.values() if info.alias}
        if section == "zero_optimization":
            theirs |= set(_REMOVED_ZERO_CONFIG_KEYS)
        assert ours(section) == theirs, section


def test_flops_profiler_keys_are_deepspeeds() -> None:
    from deepspeed.profiling.config import DeepSpeedFlopsProfilerConfig

    spy = _Spy({"enabled": True})
    DeepSpeedFlopsProfilerConfig({"flops_profiler": spy})
    assert ours("flops_profiler") == spy.asked


@pytest.mark.parametrize("key", ["optimizer.params.torch_adam", "optimizer.params.adam_w_mode"])
def test_engine_still_reads_the_optimizer_switches(key: str) -> None:
    from deepspeed.runtime import engine

    name = key.rpartition(".")[2]
    assert name in (engine.TORCH_ADAM_PARAM, engine.ADAM_W_MODE)
