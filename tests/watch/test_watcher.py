"""Which rank the watchers find to have failed first, with real watchers beside ranks that do nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.own_ranks import await_none_that_mention, processes_that_mention
from tests.helpers.stand_in import stand_ins

DEADLINE = 4.0
FOR_EVER = "sleep 120"
ECHO = "raise Connection closed by peer [10.0.0.1]:12"


def live(
    folder: Path, *lives: list[str], deadline: float = DEADLINE, stall: float = 60.0
) -> tuple[list[int], list[str], dict[str, Any] | None]:
    """Exit codes, outputs (with the watchers' words) and ``crash.json`` of ranks that end by themselves."""
    with stand_ins(folder, lives, deadline=deadline, stall=stall) as ranks:
        outputs = [rank.communicate(timeout=60)[0] for rank in ranks]
        codes = [rank.returncode for rank in ranks]
    await_none_that_mention(str(folder))
    assert not list(folder.glob("alive-*"))
    crash = folder / "crash.json"
    return codes, outputs, json.loads(crash.read_text()) if crash.exists() else None


def test_ranks_that_leave_at_different_times_have_not_failed(tmp_path: Path) -> None:
    codes, _, crash = live(tmp_path, ["sleep 0.5"], ["sleep 2"], ["sleep 0"], deadline=30)
    assert codes == [0, 0, 0] and crash is None


@pytest.mark.parametrize("rank", [0, 2])
def test_the_first_is_named_and_the_others_are_ended(tmp_path: Path, rank: int) -> None:
    lives = [["train", "doing waiting", FOR_EVER] for _ in range(3)]
    lives[rank] = ["train", "doing something bad", "sleep 1", "raise no memory"]
    codes, outputs, crash = live(tmp_path, *lives)
    assert all(code != 0 for code in codes)
    assert crash is not None
    assert (crash["rank"], crash["kind"], crash["message"]) == (rank, "exception", "RuntimeError: no memory")
    assert (crash["doing"], crash["resume"], crash["world_size"]) == ("something bad", "the command", 3)
    assert crash["other_ranks"].pop("0", "waiting") == "waiting"
    assert "in play" in crash["traceback"]
    assert outputs[0].splitlines()[-2].startswith(f"smoe-ds: rank {rank} of 3 failed first")


def test_an_echo_is_not_the_cause(tmp_path: Path) -> None:
    """Rank 0 sees rank 2 go before anybody hears of rank 2's exception; rank 1 only ever sees rank 0 go."""
    lives = [["train", "sleep 0.5", ECHO], ["train", "sleep 0.7", ECHO], ["train", "sleep 1.5", "raise the cause"]]
    _, _, crash = live(tmp_path, *lives)
    assert crash is not None and (crash["rank"], crash["message"]) == (2, "RuntimeError: the cause")


def test_of_an_echo_alone_it_is_said_that_the_first_is_not_known(tmp_path: Path) -> None:
    _, outputs, crash = live(tmp_path, ["train", FOR_EVER], ["train", "sleep 0.5", ECHO])
    assert crash is not None and (crash["rank"], crash["echo"]) == (1, True)
    said = "it is not known which rank failed first, this one only saw another go or waited for it: RuntimeError"
    assert crash["message"].startswith(said)
    assert said in outputs[0] and "of 2 failed first" not in outputs[0]


def test_a_start_that_is_refused_is_no_crash(tmp_path: Path) -> None:
    codes, outputs, crash = live(tmp_path, [FOR_EVER], ["sleep 0.5", "refuse there is no such corpus"])
    assert all(code != 0 for code in codes) and crash is None
    assert "there is no such corpus" in outputs[1] and "failed first" not in "".join(outputs)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_corpus_that_all_ranks_find_damaged_is_no_crash(tmp_path: Path, ranks: int) -> None:
    codes, outputs, crash = live(tmp_path, *[["train", "sleep 0.5", "agree changed at byte offset 7"]] * ranks)
    assert codes == [1] * ranks and crash is None
    assert all(output.count("changed at byte offset 7") == 1 for output in outputs)  # Python's own traceback
    assert "failed first" not in "".join(outputs)


def test_nothing_writes_after_the_end_of_a_lone_rank(tmp_path: Path) -> None:
    with stand_ins(tmp_path, [["train", "sleep 0.5", "raise no memory"]], deadline=40) as (rank,):
        assert rank.wait(30) == 1
        assert processes_that_mention(str(tmp_path)) == []
        assert json.loads((tmp_path / "crash.json").read_text())["message"] == "RuntimeError: no memory"
        assert not list(tmp_path.glob("alive-*"))
        assert rank.stdout is not None
        lines = rank.stdout.read().splitlines()
    assert lines[-3] == "RuntimeError: no memory" and lines[-2].startswith("smoe-ds: rank 0 of 1 failed first")


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_and_stopped(tmp_path: Path, rank: int) -> None:
    for number, (how, kind) in enumerate([("SIGKILL", "vanished"), ("SIGSTOP", "silent")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        lives = [["train", FOR_EVER], ["train", FOR_EVER]]
        lives[rank][1:1] = ["sleep 0.5", f"signal {how}"]
        _, _, crash = live(folder, *lives)
        assert crash is not None and (crash["rank"], crash["kind"]) == (rank, kind), how


def test_alive_but_at_one_thing_for_too_long(tmp_path: Path) -> None:
    going_on = [act for number in range(40) for act in (f"doing step {number}", "sleep 0.2")]
    codes, _, crash = live(tmp_path, going_on, ["doing step 3: waiting for data", FOR_EVER], stall=1.0)
    assert all(code != 0 for code in codes)
    assert crash is not None and (crash["rank"], crash["kind"]) == (1, "stalled")
    assert crash["doing"] == "step 3: waiting for data"
    assert crash["message"] == "no progress for 1 s (smoe.train.stall_timeout)"
    assert "time.sleep(float(value))" in crash["traceback"]


@pytest.mark.parametrize("rank", [0, 1])
def test_lost_with_its_watcher(tmp_path: Path, rank: int) -> None:
    lives = [["train", "sleep 1", "doing waiting", FOR_EVER], ["train", "sleep 1", "doing waiting", FOR_EVER]]
    lives[rank][3:] = ["sleep 0.5", "watcher SIGKILL", "signal SIGKILL"]
    with stand_ins(tmp_path, lives, deadline=DEADLINE) as ranks:
        assert [process.wait(60) for process in ranks] == [-9, -9]
    await_none_that_mention(str(tmp_path))
    crash = json.loads((tmp_path / "crash.json").read_text())
    assert (crash["rank"], crash["kind"], crash["pid"]) == (rank, "lost", ranks[rank].pid)
    assert crash["message"].startswith("nothing heard of it for ")
    assert crash["doing"] == "waiting"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_watcher_is_replaced(tmp_path: Path, rank: int) -> None:
    """Ranks that leave do so with an exit code of 0, and one that dies later is named, whoever watches by then."""
    (tmp_path / "leaves").mkdir(), (tmp_path / "dies").mkdir()
    lives = [["train", "sleep 2"], ["train", "sleep 2"]]
    lives[rank][1:1] = ["sleep 0.5", "watcher SIGKILL"]
    codes, _, crash = live(tmp_path / "leaves", *lives, deadline=30)
    assert codes == [0, 0] and crash is None
    lives[1].append("signal SIGKILL")
    lives[0].append(FOR_EVER)
    _, _, crash = live(tmp_path / "dies", *lives)
    assert crash is not None and (crash["rank"], crash["kind"]) == (1, "vanished")


def test_a_stopped_watcher_keeps_nobody_from_leaving(tmp_path: Path) -> None:
    with stand_ins(tmp_path, [["sleep 0.5", "watcher SIGSTOP"]], deadline=1.0) as (rank,):
        assert rank.wait(60) == 0
    await_none_that_mention(str(tmp_path))
