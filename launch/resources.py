"""What a job asks SLURM for, and the ``#SBATCH`` lines that say so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from launch.quoting import check_printable, sbatch_value
from launch.time_limit import seconds_of
from smoe_ds.errors import LaunchError

_NAME = re.compile(r"[A-Za-z0-9_.+@][A-Za-z0-9_.+@,-]*")
_FORMS = {
    "partition": (_NAME, "a partition, or several separated by commas"),
    "account": (_NAME, "an account"),
    "qos": (_NAME, "a quality of service"),
    "name": (_NAME, "letters, digits and . _ + @ -"),
    "gpu_type": (_NAME, "a type of GPU such as v100"),
    "mem": (re.compile(r"\d+[KMGT]?"), "memory per node such as 64G"),
    "constraint": (re.compile(r"[A-Za-z0-9_\[(][A-Za-z0-9_.:,&|*()\[\]-]*"), "features such as v100&nvlink"),
}
_OPTION = re.compile(r"--([a-z][a-z0-9-]*)(?:=(.*))?")
_OURS = {
    "job-name", "nodes", "ntasks", "ntasks-per-node", "gpus", "gpus-per-node", "gpus-per-task", "cpus-per-task", "time",
    "partition", "account", "qos", "constraint", "mem", "array", "signal", "output", "error", "open-mode", "requeue",
    "no-requeue", "wrap",
}  # fmt: skip
"""Options of sbatch that the renderer writes itself."""


@dataclass(frozen=True)
class Resources:
    """Nodes, tasks and time.

    Attributes:
        name: of the job.
        nodes: hosts.
        tasks_per_node: processes on each.
        gpus_per_node: GPUs on each; 0: none.
        cpus_per_task: processors of a process.
        time: limit, in one of SLURM's notations.
        stop_before: time before the limit at which the steps are signalled [s].
        partition: where to run; None: the cluster's default, as for the rest.
        account: who pays.
        qos: quality of service.
        constraint: features of the nodes.
        mem: memory per node.
        gpu_type: kind of GPU.
        array: number of tasks of an array job.
        options: further options of sbatch, ``--name=value`` each.
    """

    name: str
    nodes: int
    tasks_per_node: int
    gpus_per_node: int
    cpus_per_task: int
    time: str
    stop_before: int
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    mem: str | None = None
    gpu_type: str | None = None
    array: int | None = None
    options: tuple[str, ...] = ()

    @property
    def tasks(self) -> int:
        """Processes of a job, or of one task of an array job."""
        return self.nodes * self.tasks_per_node

    def check(self) -> None:
        """Makes sure that SLURM can understand it.

        Raises:
            LaunchError: everything that is wrong.
        """
        problems = list(self._problems())
        if problems:
            raise LaunchError("\n".join(problems))

    def _problems(self) -> Iterator[str]:
        for field, (form, expected) in _FORMS.items():
            value = getattr(self, field)
            if value is not None and form.fullmatch(value) is None:
                yield f"--{field.replace('_', '-')} {value!r}: expected {expected}"
        try:
            limit = seconds_of(self.time)
            if limit < self.stop_before + 60:
                yield (
                    f"--time {self.time}: is {limit} s, and the run is told to stop {self.stop_before} s before; "
                    f"ask for {self.stop_before + 60} s or more, or shorten --stop-before"
                )
        except LaunchError as error:
            yield str(error)
        if self.gpu_type is not None and not self.gpus_per_node:
            yield f"--gpu-type {self.gpu_type}: the job does not ask for a GPU; add --gpus-per-node"
        for option in self.options:
            yield from _option_problems(option)

    def lines(self, signal: str | None) -> list[str]:
        """The ``#SBATCH`` lines.

        Args:
            signal: that the steps get before the time limit; None: none.
        """
        gpus = f"{self.gpu_type}:{self.gpus_per_node}" if self.gpu_type else str(self.gpus_per_node)
        options = {
            "job-name": self.name,
            "nodes": self.nodes,
            "ntasks-per-node": self.tasks_per_node,
            "cpus-per-task": self.cpus_per_task,
            "gpus-per-node": gpus if self.gpus_per_node else None,
            "mem": self.mem,
            "time": self.time,
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "array": f"1-{self.array}" if self.array else None,
            "signal": f"{signal}@{self.stop_before}" if signal else None,
        }
        given = {name: value for name, value in options.items() if value is not None}
        lines = [f"#SBATCH --{name}={sbatch_value(str(value))}" for name, value in given.items()]
        return [*lines, *(f"#SBATCH {_option(option)}" for option in self.options)]


def _option_problems(option: str) -> Iterator[str]:
    match = _OPTION.fullmatch(check_printable("--sbatch", option))
    if match is None:
        yield f"--sbatch {option}: expected a long option of sbatch, e.g. --sbatch=--exclusive"
    elif match[1] in _OURS:
        yield f"--sbatch {option}: the script sets --{match[1]} itself; see python -m launch render --help"


def _option(option: str) -> str:
    name, equals, value = option.partition("=")
    return f"{name}={sbatch_value(value)}" if equals else name
