"""What one watcher knows of the other ranks: rank 0's of all of them, the others' of rank 0 and of further hosts."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smoe_ds.watch.beats import Listener, beat_file, read_beat
from smoe_ds.watch.failure import Failure
from smoe_ds.watch.reach import ASKS_PER_TAKING, Place, Reach
from smoe_ds.watch.watch_task import Task

_NO_REACH = "{hosts} have not reached each other for {seconds:.0f} s: the network failed"
_NOT_A_WORD = "nothing heard of it for {seconds:.0f} s, not even of a failure: its host or its network may be gone"


class Peers:
    """Listens to the other ranks' files, and where there are several hosts to their watchers' datagrams.

    Args:
        task: what the watcher was told.
        token: of the watcher's own beats.
    """

    def __init__(self, task: Task, token: str) -> None:
        self._task = task
        ranks = range(1, task.world_size) if task.rank == 0 else [0]
        pause = 2 * task.interval
        self._listeners = {rank: Listener(beat_file(Path(task.alive), rank), pause) for rank in ranks}
        self._reach = (
            Reach(task.rank, task.address, token, pause, listens=task.speaks or task.rank == 0)
            if task.address
            else None
        )
        self._doubted: dict[int, int] = {}

    @property
    def port(self) -> int | None:
        """Where this watcher takes datagrams."""
        return self._reach.port if self._reach else None

    def places(self) -> dict[int, list[Any]]:
        """Where the watchers of other hosts listen, as rank 0's knows it; the others read it in its beats."""
        if self._reach is None or self._task.rank:
            return {}
        return {
            rank: [self._reach.senders[rank], beat["port"], beat["token"]]
            for rank, beat in self.beats().items()
            if beat.get("port") and rank in self._reach.senders
        }

    def files(self) -> list[socket.socket]:
        """What to wait for besides other things; then `receive`."""
        return self._reach.files() if self._reach else []

    def receive(self) -> None:
        """Takes the datagrams that have come."""
        if self._reach:
            self._reach.receive()

    def look(self, now: float) -> None:
        """Reads the files, and asks for the watchers of other hosts; takes the datagrams that come meanwhile.

        Args:
            now: this process's monotonic time [s].
        """
        for number, listener in enumerate(self._listeners.values(), start=1):
            listener.look(now)
            if number % ASKS_PER_TAKING == 0:
                self.receive()
        if self._reach:
            self._reach.look(now)
            if self._task.rank and (beat := self._listeners[0].heard) is not None:
                self._reach.ask(beat)
                told = {} if self._listeners[0].over else beat.get("places", {})
                self._reach.ask_others({int(rank): Place(*place) for rank, place in told.items()})

    def beats(self, *, all_heard: bool = False) -> dict[int, dict[str, Any]]:
        """The last beat of each rank that was heard, by rank.

        Args:
            all_heard: whether those that have left since count too.
        """
        return {
            rank: listener.heard
            for rank, listener in self._listeners.items()
            if listener.heard is not None and (all_heard or not listener.over)
        }

    def lost(self, rank: int) -> Failure | None:
        """The failure of a rank that was heard but has been silent, or out of reach, for too long."""
        quiet, beat = self._listeners[rank].quiet, self._listeners[rank].heard
        assert beat is not None
        unreached = self._reach.quiet.get(rank, 0.0) if self._reach else 0.0
        if quiet >= self._task.patience:
            message = f"nothing heard of it for {quiet:.0f} s: its host or its network is gone"
        elif unreached >= self._task.patience:
            quiet = unreached
            message = _NO_REACH.format(hosts=self._hosts(str(beat["host"])), seconds=quiet)
        else:
            return None
        return _lost(rank, beat, quiet, message)

    def marks(self) -> dict[int, int]:
        """How many beats each rank has written that was heard and has not left, to tell later who has gone on."""
        return {rank: int(beat["count"]) for rank, beat in self.beats().items()}

    def silent(self, marks: Mapping[int, int]) -> list[Failure]:
        """The failures of ranks that were there when others failed, but have told nothing since, not even of a failure.

        Args:
            marks: of that moment.
        """
        found = []
        for rank, mark in marks.items():
            listener = self._listeners[rank]
            beat = listener.heard
            if beat is not None and not beat["failure"] and (listener.over or beat["count"] == mark):
                message = "it has gone without a word" if listener.over else _NOT_A_WORD.format(seconds=listener.quiet)
                found.append(_lost(rank, beat, listener.quiet, message))
        return found

    def cut_off(self) -> Failure | None:
        """The failure of a rank on a third host that goes on telling by its file how well it is, but is out of reach.

        Where its file stands still too, it is for rank 0's watcher to say what has become of it.
        """
        quiet = self._reach.quiet if self._reach else {}
        for rank in quiet.keys() - self._listeners.keys():
            if quiet[rank] < self._task.patience:
                self._doubted.pop(rank, None)
                continue
            try:
                beat = read_beat(beat_file(Path(self._task.alive), rank))
            except OSError:  # it has left
                continue
            if beat is not None and self._doubted.setdefault(rank, beat["count"]) != beat["count"]:
                hosts = f"{beat['host']} (rank {rank}) and {self._task.host} (rank {self._task.rank})"
                return _lost(rank, beat, quiet[rank], _NO_REACH.format(hosts=hosts, seconds=quiet[rank]))
        return None

    def heard(self, rank: int) -> bool:
        """Whether anything has ever been heard of a rank's watcher."""
        return self._listeners[rank].heard is not None

    def listens(self, rank: int) -> bool:
        """Whether a rank's watcher is there, as far as files tell."""
        listener = self._listeners[rank]
        return not listener.over and listener.quiet < self._task.patience

    def all_over(self) -> bool:
        """Whether nobody is left to read what this watcher tells."""
        return all(listener.over or listener.heard is None for listener in self._listeners.values())

    def _hosts(self, other: str) -> str:
        """Another host and this one, with those of their ranks that are known here."""
        hosts = {rank: str(beat["host"]) for rank, beat in self.beats(all_heard=True).items()}
        hosts[self._task.rank] = self._task.host

        def text(host: str) -> str:
            ranks = [str(rank) for rank in sorted(hosts) if hosts[rank] == host]
            return f"{host} (rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)})"

        return f"{text(other)} and {text(self._task.host)}"


def _lost(rank: int, beat: dict[str, Any], quiet: float, message: str) -> Failure:
    doing, seconds = str(beat["doing"]), float(beat["seconds"])
    return Failure(rank, str(beat["host"]), int(beat["pid"]), "lost", doing, seconds + quiet, message)
