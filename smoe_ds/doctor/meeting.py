"""How the ranks tell each other what they found: by a key-value store, which still works where collectives do not.

Rank 0 keeps the store (under torchrun its agent does), waits for each rank by name, and so can say who did not answer.
"""

from __future__ import annotations

import datetime
import json
import os
import time
from typing import TYPE_CHECKING, Any

from smoe_ds.errors import LaunchError
from smoe_ds.text_line import first_line

if TYPE_CHECKING:
    from torch.distributed import Store

    from smoe_ds.parallel.env import Env

_LEAVING = 10.0  # seconds that rank 0 waits for others to read the last word
_LONG = 7200.0  # seconds; longer than all checks together: others wait for rank 0, whose checks have deadlines


class Meeting:
    """All ranks of a start.

    Args:
        env: this process, with the meeting point filled in.
        host: name of its host.
        seconds: how long ranks wait for each other to come.

    Attributes:
        rank: of this process.
        hosts: name of each rank's host, in rank order; of those that did not come ``?``.
        absent: ranks that rank 0 has not heard of when it waited for them; it waits for them no more.
        store: the store, for process groups.

    Raises:
        LaunchError: rank 0 cannot be reached, or is another start's.
    """

    def __init__(self, env: Env, host: str, seconds: float) -> None:
        self.rank, self.world_size = env.rank, env.world_size
        self.absent: set[int] = set()
        self.store = _open(env, seconds)
        twice = self.store.add(f"here/{self.rank}", 1) > 1
        if twice:
            raise LaunchError(
                f"{env.launcher}: two processes claim to be rank {self.rank} of {self.world_size}; unset "
                "left-over RANK and WORLD_SIZE variables, and start each rank once"
            )
        came = self.collect("host", host, seconds)
        self.hosts: list[str] = self.tell("hosts", None if came is None else [name or "?" for name in came])

    @property
    def first_on_host(self) -> bool:
        """Whether this rank speaks for its host."""
        return self.rank in self.speakers

    @property
    def speakers(self) -> list[int]:
        """The first rank of every host, as far as they came."""
        first = {host: rank for rank, host in reversed(list(enumerate(self.hosts))) if host != "?"}
        return sorted(first.values())

    def collect(self, topic: str, value: Any, seconds: float) -> list[Any] | None:
        """What every rank says, on rank 0; None on the others, which do not wait.

        Args:
            topic: named once a meeting, the same on all ranks.
            value: anything JSON can carry but null.
            seconds: how long to wait; who has not answered by then is `absent`, its answer None.
        """
        if self.rank > 0:
            self.store.set(f"{topic}/{self.rank}", json.dumps(value))
            return None
        until = time.monotonic() + seconds
        answers: list[Any] = [json.loads(json.dumps(value))]
        for rank in range(1, self.world_size):
            answer = None if rank in self.absent else self.read(f"{topic}/{rank}", until - time.monotonic())
            if answer is None:
                self.absent.add(rank)
            answers.append(answer)
        return answers

    def tell(self, topic: str, value: Any = None, seconds: float = _LONG) -> Any:
        """What rank 0 says, on all ranks.

        Args:
            topic: named once a meeting, the same on all ranks.
            value: rank 0's; anything JSON can carry.
            seconds: how long others wait for it.

        Raises:
            LaunchError: rank 0 says nothing, or is gone.
        """
        if self.rank == 0:
            self.store.set(topic, json.dumps([value]))
            return value
        answer = self.read(topic, seconds)
        if answer is None:
            raise LaunchError(
                f"rank 0 of {self.world_size} has been silent for {seconds:.0f} s, or is gone; see its output"
            )
        return answer[0]

    def all_agree(self, topic: str, yes: bool, seconds: float) -> bool:
        """Whether every rank says yes; the same answer on all ranks."""
        answers = self.collect(f"{topic}?", yes, seconds)
        return bool(self.tell(topic, None if answers is None else all(answers), 2 * seconds))

    def read(self, key: str, seconds: float) -> Any:
        """What stands under a key, or None if nothing does in time, or the store is gone."""
        try:
            self.store.wait([key], datetime.timedelta(seconds=max(seconds, 0.001)))
            return json.loads(self.store.get(key))
        except RuntimeError:  # DistStoreError in time, DistNetworkError where it is gone: both are RuntimeErrors
            return None

    def leave(self) -> None:
        """Rank 0 stays until the others have read its last word."""
        if self.rank > 0:
            try:
                self.store.set(f"left/{self.rank}", "1")
            except RuntimeError:  # rank 0 waits no more
                return
            return
        until = time.monotonic() + _LEAVING
        for rank in set(range(1, self.world_size)) - self.absent:
            self.read(f"left/{rank}", until - time.monotonic())


def _open(env: Env, seconds: float) -> Store:
    from torch.distributed import HashStore, PrefixStore, TCPStore

    if env.world_size == 1:
        return HashStore()
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        store = TCPStore(
            str(env.master_addr),
            int(env.master_port or 0),
            is_master=env.rank == 0 and not agent,
            timeout=datetime.timedelta(seconds=seconds),
            wait_for_workers=False,
        )
    except RuntimeError as error:
        raise LaunchError(
            f"rank {env.rank} of {env.world_size} could not reach rank 0 at {env.master_addr}:{env.master_port} within "
            f"{seconds:g} s (started by {env.launcher}): {first_line(str(error))}; check that every host reaches "
            "the address and that rank 0 was started, or set MASTER_ADDR and MASTER_PORT"
        ) from error
    return PrefixStore(f"doctor/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
