"""What watchers conclude of each other from files and datagrams: one that is cut off, and all that only looks like it.

The clock is set by hand, rank n is on host `hn`, and all of them talk over loopback.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Collection
from pathlib import Path

from smoe_ds.watch.beats import BeatFile
from smoe_ds.watch.failure import Failure
from smoe_ds.watch.peers import Peers
from smoe_ds.watch.watch_task import Task

ADDRESS = "127.0.0.1"
DEADLINE = 6.0  # s
STEP = 0.4  # s between two looks; longer than a look's interval, but no longer than what one counts as a pause
GIVEN_UP = 10  # looks, after which a silence is longer than the patience


class Run:
    """The watchers of a run with a rank a host.

    Args:
        folder: of the beats.
        world_size: number of ranks.
    """

    def __init__(self, folder: Path, world_size: int = 3) -> None:
        self.folder, self.world_size, self.now = folder, world_size, 0.0
        self.files: dict[int, BeatFile] = {}
        self.peers: dict[int, Peers] = {}

    def start(self, *ranks: int) -> None:
        """Their watchers begin, or are replaced by others."""
        for rank in ranks:
            self.files[rank] = BeatFile(self.folder / f"rank-{rank}")
            task = Task("", str(self.folder), rank, self.world_size, True, 1, f"h{rank}", ADDRESS, DEADLINE, 1800, "")
            self.peers[rank] = Peers(task, self.files[rank].token)

    def write(self, rank: int) -> None:
        """Its next beat."""
        peers = self.peers[rank]
        content = {"pid": 7, "host": f"h{rank}", "doing": "step", "seconds": 1.0, "failure": None}
        self.files[rank].write(content | {"port": peers.port, "places": peers.places()})

    def go_on(self, *ranks: int, file_alone: Collection[int] = (), looks: int = GIVEN_UP) -> list[tuple[int, Failure]]:
        """Lets time pass.

        Args:
            ranks: of the watchers that go on as they should; the others stand still.
            file_alone: those whose files go on, but whose datagrams are lost.
            looks: number of them.

        Returns:
            What each concluded, by the rank that did: from the first look that gave anything.
        """
        for _ in range(looks):
            for rank in (*ranks, *file_alone):
                self.write(rank)
            self.now += STEP
            for rank in ranks:
                self.peers[rank].look(self.now)
            ends = [end for rank in ranks for end in self.peers[rank].files()]
            while select.select(ends, [], [], 0.003)[0]:
                for rank in ranks:
                    self.peers[rank].receive()
            found = [(rank, failure) for rank in ranks if (failure := self.peers[rank].cut_off())]
            if found:
                return found
        return []


def acquainted(folder: Path) -> Run:
    """Three watchers that have all heard each other."""
    run = Run(folder)
    run.start(0, 1, 2)
    assert run.go_on(0, 1, 2) == []
    assert run.peers[0].places().keys() == {1, 2}
    return run


def test_who_tells_by_its_file_that_it_is_well_but_is_not_reached_is_cut_off(tmp_path: Path) -> None:
    run = acquainted(tmp_path)
    ((by, failure),) = run.go_on(0, 1, file_alone=[2], looks=2 * GIVEN_UP)
    assert (by, failure.rank, failure.host, failure.pid, failure.kind) == (1, 2, "h2", 7, "lost")
    assert failure.message == "h2 (rank 2) and h1 (rank 1) have not reached each other for 4 s: the network failed"


def test_whose_file_stands_still_too_is_for_rank_0_to_judge(tmp_path: Path) -> None:
    run = acquainted(tmp_path)
    assert run.go_on(0, 1, looks=2 * GIVEN_UP) == []
    lost = run.peers[0].lost(2)
    assert lost is not None and lost.message.startswith("nothing heard of it for")


def test_who_is_heard_again_is_not_doubted_for_what_was(tmp_path: Path) -> None:
    run = acquainted(tmp_path)
    assert run.go_on(0, 1) == []  # rank 2's watcher hangs longer than the patience
    assert run.go_on(0, 1, 2) == []
    assert run.go_on(0, 1) == []  # and again, where its file is another than when it was first doubted


def test_who_has_left_is_not_cut_off_where_rank_0_cannot_say_so(tmp_path: Path) -> None:
    run = acquainted(tmp_path)
    run.files[2].remove()
    assert run.go_on(1, looks=2 * GIVEN_UP) == []  # rank 0's last beat still tells where rank 2 listens


def test_when_rank_0_has_left_first_nothing_is_concluded(tmp_path: Path) -> None:
    run = acquainted(tmp_path)
    run.files[0].remove()
    assert run.go_on(1, 2, looks=2 * GIVEN_UP) == []
    assert run.go_on(1, file_alone=[2], looks=2 * GIVEN_UP) == []


def test_watchers_that_are_replaced_are_not_cut_off(tmp_path: Path) -> None:
    run = acquainted(tmp_path)
    for rank in (2, 0):
        run.start(rank)
        assert run.go_on(0, 1, 2, looks=2 * GIVEN_UP) == []
    ((by, failure),) = run.go_on(0, 1, file_alone=[2], looks=2 * GIVEN_UP)  # they know each other again
    assert (by, failure.rank) == (1, 2)


def test_who_has_told_nothing_since_others_failed_is_the_silent_one(tmp_path: Path) -> None:
    run = acquainted(tmp_path)
    marks = run.peers[0].marks()
    assert marks.keys() == {1, 2} and [failure.rank for failure in run.peers[0].silent(marks)] == [1, 2]
    run.go_on(0, 1, looks=3)
    (failure,) = run.peers[0].silent(marks)
    assert (failure.rank, failure.host, failure.kind) == (2, "h2", "lost")
    assert failure.message == (
        "nothing heard of it for 1 s, not even of a failure: its host or its network may be gone"
    )
    run.go_on(0, 1, 2, looks=3)
    assert run.peers[0].silent(marks) == []
    run.files[2].remove()
    run.go_on(0, 1, looks=1)
    (failure,) = run.peers[0].silent(marks)
    assert (failure.rank, failure.message) == (2, "it has gone without a word")
    assert run.peers[0].marks().keys() == {1}


def test_a_look_at_many_files_takes_the_datagrams_that_have_come(tmp_path: Path) -> None:
    run = Run(tmp_path, world_size=100)
    run.start(0)
    (end,) = run.peers[0].files()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as others:
        others.sendto(f"{run.files[0].token} 99".encode(), (ADDRESS, run.peers[0].port or 0))
        assert select.select([end], [], [], 10)[0]
        run.peers[0].look(0.0)
        assert not select.select([end], [], [], 0)[0]
