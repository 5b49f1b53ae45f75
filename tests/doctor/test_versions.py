"""Versions against the required ones and against other ranks'."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

import smoe_ds
from smoe_ds.doctor.finding import FAILED, NOTE, OK
from smoe_ds.doctor.versions import (
    compare_ranks,
    compare_required,
    found_versions,
    required_versions,
    source_digest,
)
from tests.helpers.environment import ROOT

REQUIRED = {"torch": "2.13.0", "deepspeed": "0.19.8", "pyyaml": ""}
FOUND = {"Python": "3.11.7", "torch": "2.13.0+cu126", "deepspeed": "0.19.8", "pyyaml": "6.0"}


def test_those_of_this_environment() -> None:
    required = required_versions()
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    names = [line.split("==")[0] for line in lines if "==" in line]
    assert set(required) <= set(names) and {"torch", "deepspeed", "mpi4py"} <= set(required)
    assert ("backports.zstd" in required) == (tuple(map(int, platform.python_version_tuple()[:2])) < (3, 14))
    found = found_versions(required)
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert compare_required(required, found).mark != FAILED


@pytest.mark.parametrize(
    ("changes", "mark", "text"),
    [
        ({}, OK, "and 1 more as in requirements.txt"),
        ({"deepspeed": "0.19.9"}, NOTE, "deepspeed 0.19.9 (tested with 0.19.8)"),
        ({"torch": "2.10.0+cu128"}, NOTE, "torch 2.10.0+cu128 (tested with 2.13.0)"),
        ({"torch": "2.9.1"}, FAILED, "torch 2.9.1 (needs 2.10 or later)"),
        ({"deepspeed": "missing"}, FAILED, "deepspeed missing"),
    ],
)
def test_against_the_required_ones(changes: dict[str, str], mark: str, text: str) -> None:
    found = compare_required(REQUIRED, FOUND | changes)
    assert found.mark == mark and text in found.text


def test_hosts_that_differ_are_named() -> None:
    hosts = ["n1", "n1", "n2", "n2", "n3", "n3"]
    other = FOUND | {"deepspeed": "0.18.0"}
    found = compare_ranks([FOUND, FOUND, other, other, None, FOUND], hosts)
    assert (found.mark, found.text) == (FAILED, "host n2: deepspeed 0.18.0, others 0.19.8")
    found = compare_ranks([FOUND, FOUND, FOUND, other, FOUND, FOUND], hosts)
    assert found.text == "rank 3: deepspeed 0.18.0, others 0.19.8"
    found = compare_ranks([FOUND] * 5 + [None], hosts)
    assert (found.mark, found.text) == (OK, "the same packages and source code on 5 ranks")


def test_the_digest_is_that_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = source_digest()
    assert before == source_digest()
    (tmp_path / "__init__.py").write_text("1")
    monkeypatch.setattr(smoe_ds, "__file__", str(tmp_path / "__init__.py"))
    first = source_digest()
    (tmp_path / "__init__.py").write_text("2")
    assert len({before, first, source_digest()}) == 3
