"""Whether the processes that were promised are here, and whether the run can be shared by so many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from smoe_ds.config.checks import check_world
from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, NOTE, OK, Finding
from smoe_ds.errors import ConfigError


def check_launcher(context: Context) -> Iterator[Finding]:
    """Ranks that came against the launcher's promise, ranks per host, and the run's batch and experts; on rank 0."""
    meeting, env = context.meeting, context.env
    local_sizes = meeting.collect("local", [env.local_rank, env.local_world_size], context.seconds / 2)
    if local_sizes is None:
        return
    missing = [str(rank) for rank, host in enumerate(meeting.hosts) if host == "?"]
    if missing:
        yield Finding(
            FAILED,
            f"{env.launcher} promised {env.world_size} ranks, {env.world_size - len(missing)} came; missing: "
            f"{', '.join(missing)}",
            "see the output of these ranks; their hosts may not reach the address of rank 0",
            scope="run",
        )
    else:
        per_host = Counter(meeting.hosts)
        sizes = sorted(set(per_host.values()))
        counts = f"{sizes[0]} on each of {len(per_host)} hosts" if len(sizes) == 1 else f"{sizes} on a host"
        where = f"on host {meeting.hosts[0]}" if len(per_host) == 1 else counts
        noun = "rank" if env.world_size == 1 else "ranks"
        yield Finding(OK, f"{env.launcher}: {env.world_size} {noun}, {where}, all here", scope="run")
        yield from _against_slurm(context, len(per_host))
    try:
        check_world(context.run, env.world_size)
    except ConfigError as error:
        for problem in error.problems:
            text, _, remedy = problem.partition("; ")
            yield Finding(FAILED, text, remedy, scope="run")


def _against_slurm(context: Context, num_hosts: int) -> Iterator[Finding]:
    """What SLURM gave that no rank uses, as rank 0 sees it."""
    environ = context.environ
    nodes = environ.get("SLURM_STEP_NUM_NODES", environ.get("SLURM_JOB_NUM_NODES", ""))
    if context.env.launcher != "single" and nodes.isdecimal() and int(nodes) > num_hosts:
        yield Finding(
            NOTE,
            f"SLURM gave {nodes} hosts, ranks are on {num_hosts}",
            "use srun --nodes and --ntasks-per-node to put tasks on all of them",
            scope="run",
        )
    gpus = environ.get("SLURM_GPUS_ON_NODE", "")
    if gpus.isdecimal() and int(gpus) > context.env.local_world_size and context.device.type == "cuda":
        yield Finding(
            NOTE,
            f"SLURM gave {gpus} GPUs on this host, {context.env.local_world_size} ranks use one each",
            f"start {gpus} tasks a host (--ntasks-per-node={gpus})",
            scope="run",
        )
