"""Constants: what is published and assumed, files of measured ones, and those that do not fit."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.errors import ConfigError
from smoe_ds.moe.expert_backends import Accelerator
from smoe_ds.scaling.constants import (
    KINDS,
    Constants,
    assumed_constants,
    choose_constants,
    load_constants,
    measured,
)
from smoe_ds.scaling.hardware import ASSUMED, DEVICES, LINKS

CHOICE: dict[str, Any] = {"file": None, "device": None, "interconnect": None, "ports": 1}


def some_constants(device: str = "AMD EPYC", kinds: tuple[str, ...] = tuple(KINDS)) -> Constants:
    """Measured constants, as a calibration makes them."""
    draw = random.Random(1)
    lines = {kind: measured([(10.0**i, draw.uniform(1, 2) * 1e-3 * i) for i in range(1, 4)], 3) for kind in kinds}
    return Constants(device, "cpu", "fp32", lines, None, False, 0.9, 0.95, {"hosts": 1, "model": {}})


def written(constants: Constants, folder: Path) -> Path:
    path = folder / "constants.json"
    path.write_text(json.dumps(constants.as_json()))
    return path


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    assert load_constants(written(some_constants(), tmp_path)) == some_constants()


def test_every_figure_of_a_device_says_where_it_is_from() -> None:
    for name, device in DEVICES.items():
        for precision, flops in device.flops.items():
            found = assumed_constants(name, precision)
            assert not any(one.measured for one in found.lines.values())
            assert all(one.source for one in found.lines.values())
            assert found.line("dense").per_second == ASSUMED.matrix_efficiency * flops
            assert set(found.lines) == set(KINDS) - {"all_to_all_between", "all_reduce_between"}
    assert all(link.source for link in LINKS.values())


def test_v100_and_ports() -> None:
    found = choose_constants("fp16", **CHOICE | {"interconnect": "pcie3,ib-edr", "ports": 4})
    assert (found.device, found.line("dense").per_second) == ("V100", 0.4 * 125e12)
    assert found.line("all_reduce_between").per_second == pytest.approx(0.7 * 4 * 12.5e9)
    assert found.line("all_to_all_within").per_second == pytest.approx(0.7 * 15.75e9)  # in place of NVLink
    assert choose_constants("bf16", **CHOICE).device == "H200"


def test_links_of_an_own_file(tmp_path: Path) -> None:
    path = tmp_path / "fabric.json"
    path.write_text('{"bytes_per_second": 1e10, "latency": 5e-6, "source": "our own figure", "efficiency": 0.5}')
    found = choose_constants("fp16", **CHOICE | {"interconnect": str(path), "ports": 2})
    one = found.lines["all_to_all_between"]
    assert (one.line.fixed, one.line.per_second) == (5e-6, 1e10)
    assert "fabric: our own figure" in one.source
    for damaged in (
        "{",
        "[]",
        '{"latency": 1}',
        path.read_text().replace("1e10", "0"),
        path.read_text()[:-1],
        "[" * 5000,
    ):
        path.write_text(damaged)
        with pytest.raises(ConfigError, match=r"--interconnect .*fabric.json: cannot be read .*expected"):
            choose_constants("fp16", **CHOICE | {"interconnect": str(path)})


def test_measured_ones_are_completed_for_known_devices_alone(tmp_path: Path) -> None:
    kinds = ("dense", "expert")
    known = written(replace(some_constants("NVIDIA H200", kinds), accelerator="cuda"), tmp_path)
    found = choose_constants("fp32", **CHOICE | {"file": known})
    assert {kind for kind, one in found.lines.items() if one.measured} == set(kinds)
    assert found.memory_bytes == DEVICES["h200"].memory_bytes
    assert not found.lines["routing"].measured
    unknown = written(some_constants(kinds=kinds), tmp_path)
    found = choose_constants("fp32", **CHOICE | {"file": unknown})
    assert set(found.lines) == {"dense", "expert", "read", "draw"}
    with pytest.raises(ConfigError, match=r"routing was not measured .*calibrate again"):
        found.line("routing")
    with pytest.raises(ConfigError, match=r"all to all within was not measured .*calibrate with several ranks a host"):
        found.line("all_to_all_within")


@pytest.mark.parametrize(
    ("precision", "choice", "message"),
    [
        ("fp32", {}, "which device. The run is in fp32"),
        ("fp16", {"device": "v1000"}, "--device v1000: unknown, did you mean v100.; known are v100, a100"),
        ("bf16", {"device": "v100"}, "--device v100: has no bf16, which the run asks for; it has fp32, fp16"),
        ("fp16", {"interconnect": "ib-hdrr"}, "--interconnect ib-hdrr: unknown, did you mean ib-hdr"),
        ("fp16", {"interconnect": "ib-hdr,"}, "--interconnect : unknown"),
        ("fp16", {"file": Path("nowhere.json")}, "--constants nowhere.json: cannot be read: No such file"),
    ],
)
def test_names_that_are_not_known(precision: str, choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_constants(precision, **CHOICE | choice)


def test_what_kernels_go_by_is_that_of_the_device() -> None:
    assert [assumed_constants(name, "fp32").computed_on for name in ("v100", "h200")] == [
        Accelerator("cuda", (7, 0)),
        Accelerator("cuda", (9, 0)),
    ]
    measured_ones = some_constants("NVIDIA A100-SXM4-80GB")
    assert measured_ones.computed_on == Accelerator("cpu")
    assert replace(measured_ones, accelerator="cuda").computed_on == Accelerator("cuda", (8, 0))
    assert replace(measured_ones, accelerator="cuda", device="NVIDIA L4").computed_on == Accelerator("cuda")


def test_another_device_than_named(tmp_path: Path) -> None:
    path = written(some_constants("Tesla V100-SXM2-32GB"), tmp_path)
    assert choose_constants("fp32", **CHOICE | {"file": path, "device": "v100"}).device == "Tesla V100-SXM2-32GB"
    with pytest.raises(ConfigError, match="were measured on Tesla V100-SXM2-32GB, not on --device h200"):
        choose_constants("fp32", **CHOICE | {"file": path, "device": "h200"})


def test_damage_is_seen(tmp_path: Path) -> None:
    path = written(some_constants(), tmp_path)
    whole = path.read_text()
    content = json.loads(whole)

    def without(*keys: str) -> str:
        copy = json.loads(whole)
        inner = copy
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        return json.dumps(copy)

    def changed(value: Any, *keys: str) -> str:
        copy = json.loads(whole)
        inner = copy
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        return json.dumps(copy)

    damaged = [whole[: len(whole) // 2], "[]", "null", whole + "x", "\x00" * 10, "[" * 5000]
    damaged += [without(key) for key in ("format", "version", "lines", "device")]
    damaged += [without("lines", "dense", "line"), without("lines", "dense", "line", "fixed")]
    damaged += [changed(value, "lines", "dense", "line", "per_second") for value in (0, -1, "fast", None)]
    damaged += [changed(value, "padded_share") for value in (0, 1.5, "all")]
    damaged += [
        changed(content["lines"]["dense"], "lines", "sparse"),
        changed([], "circumstances"),
        changed(1, "extra"),
    ]
    damaged += [changed(float("inf"), "lines", "dense", "calls"), changed([[10**400, 1]], "lines", "dense", "points")]
    damaged += [changed(1, "device"), changed([[1]], "lines", "dense", "points")]
    for text in damaged:
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"constants.json: is damaged, or no file of smoe-ds calibrate .*again"):
            load_constants(path)
    path.write_text(changed(2, "version"))
    with pytest.raises(ConfigError, match="expected smoe_ds constants 1, found smoe_ds constants 2; calibrate again"):
        load_constants(path)
