"""A host that is cut off ends the run on both sides, names what was lost, and the run goes on where it was saved."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.apart import DEADLINE, RANKS_PER_HOST, apart_run, ranks_apart
from tests.helpers.hosts import Host, hosts_on_a_switch, two_hosts
from tests.helpers.own_ranks import OwnRanks, await_none_that_mention
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import scalars, train_on_rank

pytestmark = [pytest.mark.multirank, pytest.mark.netns]


def losses(folder: Path) -> dict[int, float]:
    return scalars(folder / "run")["train/nll"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path) -> dict[int, float]:
    """The losses of one process."""
    folder = tmp_path_factory.mktemp("alone")
    assert run_ranks(train_on_rank, 1, str(apart_run(folder, corpus_folder, 1)), [], init=False) == [0]
    return losses(folder)


def cut_at(rank: int, world_size: int, file: str, hosts: tuple[Host, ...], where: str, moment: str) -> int:
    """Trains; rank 2 cuts its own host off, of three from one other, once, in the middle of something."""
    import smoe_ds.moe.expert_parallel as exchange
    from smoe_ds.checkpoints.part_file import PartFile

    if rank == 2:
        owner, name, number = {
            "exchange": (exchange.dist, "all_to_all_single", 60),
            "save": (PartFile, "close", 3),
        }[where]
        own = hosts[rank // (world_size // len(hosts))]
        original, calls = getattr(owner, name), []

        def planted(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == number:
                own.cut_off() if len(hosts) == 2 else own.cut_off_from(hosts[1])
                Path(moment).write_text(str(time.monotonic()))
            return original(*args, **kwargs)

        setattr(owner, name, planted)
    return train_on_rank(rank, world_size, file, [])


def check_ended(ranks: OwnRanks, hosts: tuple[Host, Host], folder: Path) -> None:
    """Both sides are gone in time and say who has lost whom."""
    endings = ranks.wait(60)
    moment = float((folder / "moment").read_text())
    for ending in endings:
        assert ending.after is not None and ending.after - moment < DEADLINE, endings
        assert ending.code != 0, endings
    await_none_that_mention(str(folder), DEADLINE / 2)
    crash = json.loads((folder / "run" / "crash.json").read_text())
    # rank 0's word as a rule; the other side's, which does not wait for it for long, where that was written first
    number = crash["rank"] // RANKS_PER_HOST
    assert (crash["kind"], crash["host"]) == ("lost", hosts[number].namespace), crash
    if number == 1:
        both = f"{hosts[1].namespace} (ranks 2, 3) and {hosts[0].namespace} (ranks 0, 1)"
        assert crash["message"].startswith(f"{both} have not reached each other for")
    for rank in (0, 2):
        assert "have not reached each other for" in "\n".join(ranks.output(rank).strip().splitlines()[-2:])
    assert not list((folder / "run").glob("alive-*"))


@pytest.mark.parametrize(("where", "ep_size"), [("exchange", 4), ("save", 2)])
def test_cut_off_and_rejoined(
    tmp_path: Path, corpus_folder: Path, alone: dict[int, float], where: str, ep_size: int
) -> None:
    file = str(apart_run(tmp_path, corpus_folder, ep_size))
    with two_hosts() as hosts:
        ranks = ranks_apart(cut_at, hosts, tmp_path / "out", file, hosts, where, str(tmp_path / "moment"))
        check_ended(ranks, hosts, tmp_path)
        saved = sorted(
            int(path.name[5:]) for path in (tmp_path / "run" / "checkpoints").glob("step_*") if path.name[5:].isdigit()
        )
        hosts[1].reconnect()
        endings = ranks_apart(train_on_rank, hosts, tmp_path / "again", file, []).wait(120)
    assert [ending.code for ending in endings] == [0] * 4, endings
    assert f"continuing after step {saved[-1]}" in endings[0].output
    assert losses(tmp_path) == pytest.approx(alone, rel=1e-5)
    assert not (tmp_path / "run" / "crash.json").exists()


def test_two_hosts_that_only_rank_0_still_reaches(tmp_path: Path, corpus_folder: Path) -> None:
    """Of three hosts the second and the third lose each other; rank 0 hears both all the time."""
    file = apart_run(tmp_path, corpus_folder, 3, stall_timeout=600.0)
    run = json.loads(file.read_text())
    run["train_batch_size"] = 3
    run["smoe"]["moe"]["strata"] = [3, 3]
    file.write_text(json.dumps(run))
    with hosts_on_a_switch(3) as hosts:
        arguments = (str(file), hosts, "exchange", str(tmp_path / "moment"))
        ranks = ranks_apart(cut_at, hosts, tmp_path / "out", *arguments, on_each=1)
        endings = ranks.wait(60)
        moment = float((tmp_path / "moment").read_text())
        for ending in endings:
            assert ending.after is not None and ending.after - moment < DEADLINE and ending.code != 0, endings
        await_none_that_mention(str(tmp_path), DEADLINE / 2)
    crash = json.loads((tmp_path / "run" / "crash.json").read_text())
    assert crash["kind"] == "lost" and crash["rank"] in (1, 2), crash
    lost, other = crash["rank"], 3 - crash["rank"]
    both = f"{hosts[lost].namespace} (rank {lost}) and {hosts[other].namespace} (rank {other})"
    assert crash["message"].startswith(f"{both} have not reached each other for"), crash
    assert not list((tmp_path / "run").glob("alive-*"))
