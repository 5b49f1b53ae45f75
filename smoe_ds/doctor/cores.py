"""Whether the host has cores left for the threads of its ranks: one that is taken away holds up all the others."""

from __future__ import annotations

import os
from collections.abc import Iterator

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import NOTE, OK, Finding
from smoe_ds.parallel.threads import NUMBER, allowed_cores, threads_here


def check_cores(context: Context) -> Iterator[Finding]:
    """Once a host: its load before the run, and what its ranks add."""
    if not context.meeting.first_on_host:
        return
    ranks = context.env.local_world_size
    threads = threads_here(ranks, context.environ, allowed_cores()) if context.device.type == "cpu" else 1
    yield cores_finding(os.getloadavg()[0], os.cpu_count() or 1, ranks, threads)


def cores_finding(load: float, cores: int, ranks: int, threads: int) -> Finding:
    """What the load leaves.

    Args:
        load: mean number of running processes in the last minute.
        cores: of the host.
        ranks: on this host.
        threads: of each that compute.
    """
    figures = {"cores": cores, "threads": ranks * threads}
    busy = round(load)  # this check's own processes are a fraction
    text = f"{{cores:count}} cores, load {load:.1f}, and the run adds {{threads:count}} threads"
    if ranks * threads > cores:
        remedy = f"set {NUMBER} to {max(1, cores // ranks)}; threads that share a core wait for each other"
        return Finding(NOTE, text, remedy, figures, scope="host")
    if busy + ranks * threads > cores:
        remedy = (
            f"the host is busy: wait, or set {NUMBER} to {max(1, (cores - busy) // ranks)}; training may be far slower"
        )
        return Finding(NOTE, text, remedy, figures, scope="host")
    return Finding(OK, text, figures=figures, scope="host")
