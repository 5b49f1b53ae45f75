"""Ranks on hosts that are really apart, and what is left of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smoe_ds.parallel.ports import free_port
from tests.helpers.hosts import Host
from tests.helpers.own_ranks import OwnRanks
from tests.helpers.small_run import small_run, write_run

RANKS_PER_HOST = 2
DEADLINE = 10.0


def apart_run(folder: Path, corpus: Path, ep_size: int, **train: Any) -> Path:
    """A run file for four ranks that one process computes as well."""
    settings = {"death_deadline": DEADLINE, "stall_timeout": 120.0, "checkpoint_every": 2, "validate_every": 100}
    run = small_run(folder / "run", corpus, **settings | train)
    run["train_batch_size"] = 4
    run["smoe"]["moe"] = {"strata": [4, 4], "ep_size": ep_size, "load_balancing_batch": "local"}
    folder.mkdir(parents=True, exist_ok=True)
    return write_run(folder / "run.json", run)


def ranks_apart(
    fn: Callable[..., int],
    hosts: tuple[Host, ...],
    folder: Path,
    *args: Any,
    absent: int | None = None,
    on_each: int = RANKS_PER_HOST,
) -> OwnRanks:
    """``fn(rank, world_size, *args)`` as ranks on each host, which meet on the first one.

    Args:
        fn: a function at the top level of a module; what it returns is the exit code.
        hosts: the hosts.
        folder: where the output goes.
        args: further arguments.
        absent: number of a host on which nothing is started.
        on_each: ranks of a host.
    """
    return OwnRanks(_at_home, len(hosts) * on_each, folder, hosts, on_each, free_port(), absent, fn, args)


def _at_home(
    rank: int,
    world_size: int,
    hosts: tuple[Host, ...],
    on_each: int,
    port: int,
    absent: int | None,
    fn: Callable[..., int],
    args: tuple[Any, ...],
) -> int:
    number, local_rank = divmod(rank, on_each)
    if number == absent:
        return 0
    hosts[number].enter()
    os.environ.update(
        LOCAL_RANK=str(local_rank),
        LOCAL_WORLD_SIZE=str(on_each),
        MASTER_ADDR=hosts[0].address,
        MASTER_PORT=str(port),
    )
    return fn(rank, world_size, *args)
