"""Checks on real ranks: what one of them finds, does not answer, or sees otherwise, reaches the report."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.doctor.clocks import check_clocks
from smoe_ds.doctor.context import Context
from smoe_ds.doctor.corpus import check_corpus
from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED, Finding
from smoe_ds.doctor.launcher import check_launcher
from smoe_ds.doctor.merge import Line
from smoe_ds.doctor.network import check_network
from smoe_ds.doctor.run_folder import check_run_folder
from smoe_ds.doctor.shared_folder import check_shared_folder
from tests.helpers.doctors import mount_over, on_rank, own_mounts
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank


def examined(run_file: Path, *looks: Any, ranks: int = 2, **more: Any) -> list[Line]:
    """The lines that rank 0 would print; the others print none."""
    settings = {"options": {}, "prepare": None, "hosts": None} | more
    lines, *others = run_ranks(_on_rank, ranks, str(run_file), list(looks), settings, init=False, timeout=90)
    assert others == [[]] * (ranks - 1)
    return list(lines)


def _on_rank(rank: int, world_size: int, run_file: str, looks: list[Any], settings: dict[str, Any]) -> list[Line]:
    return on_rank(rank, world_size, run_file, looks, **settings)


def _says_who(context: Context) -> Iterator[Finding]:
    yield Finding(OK, "the same")
    yield Finding(OK, "{size:bytes} each", figures={"size": 1024 * (context.env.rank + 1)})
    if context.env.rank == 1:
        yield Finding(NOTE, "different", "do this")


def _crashes(context: Context) -> Iterator[Finding]:
    yield Finding(OK, "so far so good")
    if context.env.rank == 1:
        raise ValueError("a defect\nwith details")


def _hangs(context: Context) -> Iterator[Finding]:
    if context.env.rank == 1:
        time.sleep(1000)
    yield Finding(OK, "done")


def test_merged_crashed_and_hung(run_file: Path) -> None:
    lines = examined(run_file, _says_who, _crashes, _hangs, _says_who, options={"seconds": 8.0}, hosts=("n1", "n2"))
    found = [(line.check[-1], line.mark, line.where, line.text) for line in lines]
    said = [
        (NOTE, "host n2", "different"),
        (OK, "both ranks", "the same"),
        (OK, "both ranks", "1.0 KiB to 2.0 KiB each"),
    ]
    assert found == [
        *[("0", *one) for one in said],
        ("1", FAILED, "host n2", "the check itself failed: ValueError: a defect"),
        ("1", OK, "both ranks", "so far so good"),
        ("2", FAILED, "host n2", "did not finish within 8 s"),
        ("2", OK, "host n1", "done"),
        *[("3", *one) for one in said],
    ]


def _falls_silent(context: Context) -> Iterator[Finding]:
    if context.env.rank == 1:
        context.meeting.collect = lambda *_: None  # type: ignore[method-assign]
    yield Finding(OK, "alive")


def test_a_rank_that_answers_no_more_is_waited_for_once(run_file: Path) -> None:
    lines = examined(run_file, _falls_silent, _says_who, check_network, prepare=_little_grace, options={"seconds": 8.0})
    found = [(line.check[-1], line.mark, line.where, line.text) for line in lines]
    assert found == [
        ("0", OK, "rank 0", "alive"),
        ("0", FAILED, "rank 1", "no answer within 9 s"),
        ("1", OK, "rank 0", "the same"),
        ("1", OK, "rank 0", "1.0 KiB each"),
        ("2", SKIPPED, "rank 0", "skipped because ranks are missing"),
    ]


def _little_grace(rank: int) -> None:
    import smoe_ds.doctor.examine

    smoe_ds.doctor.examine._GRACE = 1.0


def test_all_in_order(run_file: Path) -> None:
    lines = examined(run_file, check_launcher, check_shared_folder, check_network, check_clocks)
    assert {line.mark for line in lines} == {OK, SKIPPED}
    text = "\n".join(line.text for line in lines)
    for part in (
        "environment: 2 ranks, on host here, all here",
        "every rank and rank 0 read what the other wrote",
        "all-to-all (uneven) and all-reduce give the right results over gloo",
        "all-reduce of 4.0 MiB over all ranks",
        "the run exchanges nothing (ep_size 1)",
        "skipped because all ranks share one host's clock",
    ):
        assert part in text


def test_a_folder_that_is_not_shared(run_file: Path, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("mounting needs root")
    folder = tmp_path / "run"
    folder.mkdir()
    (line,) = examined(run_file, check_shared_folder, prepare=_Mounting(folder), hosts=("n1", "n2"))
    assert line.mark == FAILED
    assert line.text == f"{folder} is another folder for rank 1 on n2 than for rank 0 on n1"
    assert list(folder.iterdir()) == []


class _Mounting:
    """Rank 1 sees an empty file system instead of the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, rank: int) -> None:
        if rank == 1:
            mount_over(self.folder)


class _ReadOnly(_Mounting):
    """Rank 1 may not write to the folder."""

    def __call__(self, rank: int) -> None:
        if rank == 1:
            own_mounts()
            for options in (["--bind", str(self.folder)], ["-o", "remount,ro,bind"]):
                subprocess.run(["mount", *options, str(self.folder)], check=True)


def test_a_folder_that_one_host_cannot_write(run_file: Path, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("mounting needs root")
    folder = tmp_path / "run"
    folder.mkdir()
    lines = examined(run_file, check_run_folder, check_shared_folder, prepare=_ReadOnly(folder), hosts=("n1", "n2"))
    failed = [(line.where, line.text) for line in lines if line.mark == FAILED]
    assert failed == [
        ("host n2", f"{folder}: cannot be written: Read-only file system"),
        ("", f"{folder}: no token could be written by rank 1 on n2"),
    ]


def test_a_clock_that_is_off(run_file: Path) -> None:
    (line,) = examined(run_file, check_clocks, options={"skew": 5.0}, hosts=("n1", "n2"))
    assert (line.mark, line.where) == (NOTE, "host n2")
    apart = float(line.text.removeprefix("its clock is ").split()[0])
    assert apart == pytest.approx(5.0, abs=2.0) and "ahead of rank 0's" in line.text
    (line,) = examined(run_file, check_clocks, options={"skew": 0.05}, hosts=("n1", "n2"))
    assert (line.mark, line.where) == (OK, "host n2")


def _wrong_exchange(rank: int) -> None:
    """What rank 1 receives is not what was sent."""
    import torch.distributed as dist

    exchange = dist.all_to_all_single

    def damaged(received: Any, *args: Any, **options: Any) -> None:
        exchange(received, *args, **options)
        if rank == 1:
            received[-1] += 1

    dist.all_to_all_single = damaged


def test_an_exchange_that_is_wrong(run_file: Path) -> None:
    lines = examined(run_file, check_network, _says_who, ranks=3, prepare=_wrong_exchange)
    assert [(line.mark, line.where) for line in lines if line.check == "check 0"] == [
        (FAILED, "rank 1"),
        (SKIPPED, "ranks 0, 2"),
    ]
    assert lines[0].text == "all-to-all: what arrived from ranks [2] is not what they sent"


def _no_network(rank: int) -> None:
    if rank == 1:
        os.environ["GLOO_SOCKET_IFNAME"] = "nowhere0"


def test_a_rank_that_cannot_join_the_collectives(run_file: Path) -> None:
    lines = examined(run_file, check_network, _says_who, prepare=_no_network, options={"seconds": 8.0})
    network = [line for line in lines if line.check == "check 0"]
    assert {rank for line in network if line.mark == FAILED for rank in line.ranks} == {0, 1}
    assert any("nowhere0" in line.text for line in network)
    assert "different" in [line.text for line in lines if line.check == "check 1"]  # the examination goes on


def test_pairs_of_hosts_and_expert_groups(run_file: Path) -> None:
    run_file.write_text(run_file.read_text().replace('"ep_size": 1', '"ep_size": 2'))
    lines = examined(run_file, check_network, ranks=4, hosts=("n1", "n1", "n2", "n2"))
    assert {line.mark for line in lines} == {OK}
    text = "\n".join(line.text for line in lines)
    assert "n1 and n2: " in text and "one way" in text
    assert "a step exchanges" in text and "(ep_size 2)" in text


def test_too_many_ranks_for_the_run(run_file: Path) -> None:
    ok, failed = sorted(examined(run_file, check_launcher, ranks=3), key=lambda line: line.mark == FAILED)
    assert ok.mark == OK and failed.mark == FAILED
    assert "2 micro-batches a step cannot be shared by 3 ranks" in failed.text and "set it to" in failed.remedy


def test_a_corpus_that_one_host_lacks(run_file: Path, corpus_folder: Path) -> None:
    if os.geteuid():
        pytest.skip("mounting needs root")
    lines = examined(run_file, check_corpus, prepare=_Mounting(corpus_folder), hosts=("n1", "n2"))
    failed = [line for line in lines if line.mark == FAILED]
    assert [line.where for line in failed] == ["host n2"] and "missing" in failed[0].text
