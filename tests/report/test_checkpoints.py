"""What is said of checkpoints, whole: their list, whether they are whole, differences, what goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smoe_ds.checkpoints.compare import Comparison, Difference, Setting
from smoe_ds.checkpoints.inspection import Summary, Verification
from smoe_ds.checkpoints.retention import Retention
from smoe_ds.report.checkpoints import (
    averaged_text,
    comparison_text,
    list_table,
    retention_lines,
    stranger_notes,
    topology_text,
    verification_text,
)
from smoe_ds.weights.average import Candidate

ROOT = Path("run/checkpoints")
TOPOLOGY = {"world_size": 16, "ep_size": 4, "zero_stage": 2, "model_dtype": "float16", "offload": True}


def folder(step: int) -> Path:
    return ROOT / f"step_{step:08d}"


@pytest.fixture
def utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("utc")
def test_list() -> None:
    state = {"topology": TOPOLOGY, "extra": {"progress": {"validation_nll": 2.34567}}}
    summaries = [
        Summary(folder(2000), 123 * 2**20, 86_400.0, state, (), False, ("best", "latest")),
        Summary(folder(90), 2**19, 0.0, {"origin": {}}, (), True),
        Summary(folder(8), 0, 0.0, {}, ("manifest.json: damaged", "x: missing")),
    ]
    table = list_table(summaries)
    assert table.text(underlined=False).splitlines() == [
        f"step       size  written              topology{' ' * 34}valid nll                files",
        "2000  123.0 MiB  1970-01-02 00:00:00  16 ranks, ep 4, ZeRO 2, float16, offload"
        "     2.3457  best, latest  sizes right",
        "  90    0.5 MiB  1970-01-01 00:00:00  weights alone                           "
        "          -                whole",
        "   8    0.0 MiB  1970-01-01 00:00:00  -                                       "
        "          -                manifest.json: damaged; x: missing",
    ]
    assert table.as_json()[0]["bytes"] == 123 * 2**20


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        ((), "16 ranks, ep 4, ZeRO 2, float16, offload"),
        (("offload",), "16 ranks, ep 4, ZeRO 2, float16"),
        (("ep_size", "offload"), "16 ranks, ZeRO 2, float16"),
    ],
)
def test_topology(left_out: tuple[str, ...], expected: str) -> None:
    assert topology_text({"topology": {k: v for k, v in TOPOLOGY.items() if k not in left_out}}) == expected


def test_verification() -> None:
    damaged = Verification(folder(8), ("a", "b"), ("notes.txt",))
    assert verification_text(damaged) == f"{folder(8)}: damaged, 2 files"
    assert stranger_notes(damaged) == [f"note: {folder(8)}/notes.txt: is not in manifest.json; nothing reads it"]
    assert verification_text(Verification(folder(8), (), ())) == f"{folder(8)}: whole"


def test_comparison() -> None:
    head = [f"A {folder(1)}", f"B {folder(2)}"]
    tensors = tuple(Difference(f"w{i}", "master", f"max |difference| {i}", float(i)) for i in range(22))
    settings = (Setting("state.step", 1, 2), Setting("config.x", None, "é" * 200))
    found = Comparison(folder(1), folder(2), settings, tensors)
    lines = comparison_text(found).splitlines()
    assert lines[:4] == [*head, "state.step: 1 | 2", f'config.x: null | "{"é" * 96}...']
    assert lines[4:] == [
        *(f"master w{i}: max |difference| {i}" for i in range(20)),
        "and 2 more tensors; --all shows them",
    ]
    assert comparison_text(found, every=True).splitlines()[-1] == "master w21: max |difference| 21"
    same = Comparison(folder(1), folder(2), (), ())
    assert comparison_text(same).splitlines() == [*head, "no difference"]
    assert same.same and not found.same


def test_what_goes_stands_in_the_order_of_steps() -> None:
    found = Retention(ROOT, (folder(30), folder(10)), (folder(20), folder(5)), ())
    assert retention_lines(found) == [
        f"keep {folder(30)}",
        f"remove {folder(20)}",
        f"keep {folder(10)}",
        f"remove {folder(5)}",
    ]


def test_what_was_averaged() -> None:
    lines = averaged_text([Candidate(folder(30), 2.5), Candidate(folder(20), None)]).splitlines()
    assert lines == [f"{folder(30)}, validation loss 2.5000 nat", str(folder(20))]
