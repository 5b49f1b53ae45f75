"""Whether the host has cores left for the threads of its ranks: one that is taken away holds up all the others."""

from __future__ import annotations

import os
from collections.abc import Iterator

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import NOTE, OK, Finding
from smoe_ds.parallel.cores import cores_here
from smoe_ds.parallel.threads import NUMBER, threads_here


def check_cores(context: Context) -> Iterator[Finding]:
    """Once a host: its load before the run, and what its ranks add."""
    if not context.meeting.first_on_host:
        return
    ranks = context.env.local_world_size
    cores = cores_here(context.environ)
    threads = threads_here(ranks, context.environ, cores) if context.device.type == "cpu" else 1
    yield cores_finding(os.getloadavg()[0], cores.together, os.cpu_count() or 1, ranks, threads)


def cores_finding(load: float, cores: int, all_cores: int, ranks: int, threads: int) -> Finding:
    """What the load leaves.

    Args:
        load: mean number of running processes in the last minute.
        cores: that all ranks on this host may use.
        all_cores: of the host; what runs elsewhere may keep the other ones busy.
        ranks: on this host.
        threads: of each that compute.
    """
    figures = {"cores": cores, "all": all_cores, "threads": ranks * threads}
    busy = max(0, round(load) - (all_cores - cores))  # this check's own processes are a fraction
    some = "" if cores == all_cores else " of {all:count}"
    text = f"{{cores:count}}{some} cores, load {load:.1f}, and the run adds {{threads:count}} threads"
    if ranks * threads > cores:
        remedy = f"set {NUMBER} to {max(1, cores // ranks)}; threads that share a core wait for each other"
        return Finding(NOTE, text, remedy, figures, scope="host")
    if busy + ranks * threads > cores:
        remedy = (
            f"the host is busy: wait, or set {NUMBER} to {max(1, (cores - busy) // ranks)}; training may be far slower"
        )
        return Finding(NOTE, text, remedy, figures, scope="host")
    return Finding(OK, text, figures=figures, scope="host")
