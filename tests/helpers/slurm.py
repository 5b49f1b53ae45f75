"""A real SLURM on one machine, without systemd: munged, slurmctld and one slurmd a node, in a folder of its own.

Each node is a slurmd in namespaces of its own (process ids, host name, mounts): ``hostname`` says n1, n1 and n2
resolve there and nowhere else, and when the slurmd ends, the kernel ends all that it started.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.environment import own_environment

_PROGRAMS = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "unshare": "util-linux",
}
_PORTS = range(10_000, 15_000)  # below those that Linux gives to connections and those of the runs themselves
_LONGEST_FOLDER = 70  # a socket's path has 107 characters at most
_START_SECONDS = 60.0
_FINAL_STATES = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
_NODE_MEMORY = 8000  # MiB

_CONFIGURATION = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_min_interval=100000
JobRequeue=1
KillWait=10
MessageTimeout=60
UnkillableStepTimeout=60
"""


def why_not() -> str | None:
    """Why SLURM cannot be started here; None if it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs Linux and root"
    for program, package in _PROGRAMS.items():
        if _find(program) is None:
            return f"needs {program} (Debian package {package})"
    probe = subprocess.run(
        [*_own_host("probe", Path("/dev/null")), "true"], capture_output=True, text=True, check=False
    )
    return f"unshare: {probe.stderr.strip()}" if probe.returncode else None


@dataclass(frozen=True)
class Cluster:
    """A running SLURM.

    Attributes:
        folder: where its files are.
        nodes: names of its nodes.
        environment: in which its commands work, with SLURM_CONF; jobs inherit it.
    """

    folder: Path
    nodes: tuple[str, ...]
    environment: dict[str, str]

    def run(self, *command: str, seconds: float = 120, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a command, e.g. ``srun``, to its end; the caller looks at its exit code.

        Args:
            *command: program and arguments.
            seconds: after which it is killed, and subprocess.TimeoutExpired raised.
            **variables: of the environment.
        """
        environment = self.environment | variables
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)

    def submit(self, script: Path, *options: str, **variables: str) -> int:
        """Number of the job that ``sbatch OPTIONS SCRIPT`` made."""
        return int(self._ask("sbatch", "--parsable", *options, str(script), **variables))

    def field(self, job: int, name: str) -> str:
        """A field of ``scontrol show job``, e.g. "Reason"; "" if it has none of this name."""
        words = self._ask("scontrol", "--oneliner", "show", "job", str(job)).split()
        return next((word.partition("=")[2] for word in words if word.startswith(f"{name}=")), "")

    def state(self, job: int) -> str:
        """State of a job, e.g. "RUNNING"."""
        return self.field(job, "JobState")

    def wait(self, job: int, states: Sequence[str], seconds: float = 60) -> str:
        """Waits until a job is in one of these states, and returns it.

        Raises:
            TimeoutError: it did not come to that, or cannot any more; the message shows the job and the daemons' logs.
        """
        end = time.monotonic() + seconds
        while (state := self.state(job)) not in states:
            if time.monotonic() > end or state in _FINAL_STATES:
                shown = self._ask("scontrol", "show", "job", str(job))
                raise TimeoutError(f"job {job} is {state}, not {' or '.join(states)}\n{shown}\n{_logs(self.folder)}")
            time.sleep(0.1)
        return state

    def restart(self, job: int, seconds: float = 60) -> None:
        """Waits until a job was requeued, and lets it start at once; SLURM makes it wait for two minutes.

        Raises:
            TimeoutError: it was not requeued.
        """
        end = time.monotonic() + seconds
        while (found := (self.state(job), self.field(job, "Reason"))) != ("PENDING", "BeginTime"):
            if time.monotonic() > end:
                raise TimeoutError(f"job {job} was not requeued: it is {found[0]}, reason {found[1]}")
            time.sleep(0.1)
        time.sleep(1.1)  # slurmd refuses a start within the second in which it ended the job before
        self._ask("scontrol", "update", f"JobId={job}", "StartTime=now")

    def processes(self, job: int, mention: str) -> dict[int, int]:
        """Process id of each task of a job's steps whose command line contains a text, by rank (SLURM_PROCID)."""
        found = {}
        for pid, environ in _environments(self.environment["SLURM_CONF"]):
            rank = environ.get("SLURM_PROCID")
            if environ.get("SLURM_JOB_ID") == str(job) and rank and mention in _command_line(pid):
                found[int(rank)] = pid
        return found

    def cancel_all(self, seconds: float = 60) -> None:
        """Ends all jobs, and waits until the nodes are free."""
        jobs = self._ask("squeue", "--noheader", "--format=%A").split()
        if jobs:
            self._ask("scancel", *jobs)
        self.wait_until_idle(seconds)

    def wait_until_idle(self, seconds: float) -> None:
        """Waits until no node does anything.

        Raises:
            TimeoutError: it did not come to that; the message shows the daemons' logs.
        """
        end = time.monotonic() + seconds
        while (states := self._node_states()) != ["idle"] * len(self.nodes):
            if time.monotonic() > end:
                raise TimeoutError(f"SLURM's nodes are {states}, not idle\n{_logs(self.folder)}")
            time.sleep(0.1)

    def _node_states(self) -> list[str]:
        shown = self.run("sinfo", "--noheader", "--Node", "--format=%T")
        return shown.stdout.split() if shown.returncode == 0 else [shown.stderr.strip()]

    def _ask(self, *command: str, **variables: str) -> str:
        done = self.run(*command, **variables)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout.strip()


@contextmanager
def slurm_cluster(folder: Path, nodes: int = 2, cpus: int = 2) -> Iterator[Cluster]:
    """A SLURM whose nodes are idle; nothing of it is left afterwards, its files included.

    Args:
        folder: for its files; made here.
        nodes: number of nodes, n1, n2 and so on, all of them this machine.
        cpus: processors that each node claims to have.

    Raises:
        RuntimeError: it does not start; the message shows the daemons' logs.
    """
    if len(str(folder)) > _LONGEST_FOLDER:
        raise RuntimeError(f"{folder}: sockets are made in it, so its path may have {_LONGEST_FOLDER} characters")
    folder.mkdir(parents=True)
    names = tuple(f"n{number + 1}" for number in range(nodes))
    configuration = _write_configuration(folder, names, cpus)
    environment = own_environment(SLURM_CONF=str(configuration))
    cluster = Cluster(folder, names, environment)
    try:
        with ExitStack() as daemons:
            _start(cluster, daemons)
            yield cluster
    finally:
        _kill_all_of(str(configuration))
        shutil.rmtree(folder)


def _start(cluster: Cluster, daemons: ExitStack) -> None:
    """Starts the daemons, in the foreground of this process; `daemons` ends them, the last one first."""
    folder = cluster.folder
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed", "log")]
    commands = {"munged": ["munged", "--foreground", "--force", f"--socket={folder}/munge.sock", *munge]}
    commands["slurmctld"] = ["slurmctld", "-D", "-c"]
    for name in cluster.nodes:
        commands[f"slurmd-{name}"] = [*_own_host(name, folder / "hosts"), _program("slurmd"), "-D", "-N", name]
    processes = {}
    for name, (program, *arguments) in commands.items():
        processes[name] = daemons.enter_context(_daemon([_program(program), *arguments], name, cluster))
        if name == "munged":
            _wait_for_file(folder / "munge.sock", processes)
    try:
        cluster.wait_until_idle(_START_SECONDS)
    except TimeoutError as error:
        ended = {name: process.returncode for name, process in processes.items() if process.poll() is not None}
        raise RuntimeError(f"SLURM does not start; daemons that ended, with exit codes: {ended}\n{error}") from error


@contextmanager
def _daemon(command: list[str], name: str, cluster: Cluster) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the end of the block; what it says goes to NAME.log."""
    with (cluster.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=cluster.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        process.kill()  # nothing of its state is wanted; what runs on a node goes with its slurmd
        process.wait()


def _wait_for_file(path: Path, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + _START_SECONDS
    while not path.exists():
        if time.monotonic() > end or any(process.poll() is not None for process in processes.values()):
            raise RuntimeError(f"SLURM does not start: no {path}\n{_logs(path.parent)}")
        time.sleep(0.02)


def _own_host(name: str, hosts: Path) -> list[str]:
    """What to put before a command so that it runs on a "host" of this name, and ends with whoever waits for it.

    Args:
        name: what ``hostname`` says there.
        hosts: file that is /etc/hosts there.
    """
    script = 'mount --bind "$1" /etc/hosts && hostname "$2" && shift 2 && exec "$@"'
    own = ["--mount", "--propagation=slave", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *own, "sh", "-c", script, "sh", str(hosts), name]


def _write_configuration(folder: Path, names: Sequence[str], cpus: int) -> Path:
    """Key, host names and slurm.conf, on ports that are free."""
    controller_port, *ports = _free_ports(1 + len(names))
    key = folder / "munge.key"
    key.touch(0o400)
    key.write_bytes(random.SystemRandom().randbytes(1024))
    (folder / "state").mkdir()
    own = "".join(f"127.0.0.{number} {name}\n" for number, name in enumerate(names, 1))
    (folder / "hosts").write_text(Path("/etc/hosts").read_text() + own)
    lines = [_CONFIGURATION.format(folder=folder, controller_port=controller_port).rstrip()]
    for name, port in zip(names, ports, strict=True):
        (folder / f"spool-{name}").mkdir()
        lines.append(f"NodeName={name} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={_NODE_MEMORY}")
    lines.append(
        f"PartitionName=main Nodes={','.join(names)} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE\n"
    )
    path = folder / "slurm.conf"
    path.write_text("\n".join(lines))
    return path


def _free_ports(number: int) -> list[int]:
    """So many ports on which nobody listens, by chance: another cluster starting now takes others."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == number:
            return found
    raise RuntimeError(f"no {number} free ports from {_PORTS.start} to {_PORTS.stop}")


def _kill_all_of(configuration: str) -> None:
    """Kills what is left of a cluster: commands such as a hanging srun; the nodes' processes went with their slurmd."""
    end = time.monotonic() + 10
    while (left := list(_environments(configuration))) and time.monotonic() < end:
        for pid, _ in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def _environments(configuration: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Processes of a cluster other than this one, with their environments."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        environ = dict(item.partition("=")[::2] for item in text.split("\0") if "=" in item)
        if environ.get("SLURM_CONF") == configuration and int(entry.name) != os.getpid():
            yield int(entry.name), environ


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _logs(folder: Path) -> str:
    """The last lines of all daemons' logs."""
    texts = [
        f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-20:])
        for path in sorted([*folder.glob("*.log"), folder / "munge.log"])
        if path.exists()
    ]
    return "\n".join(dict.fromkeys(texts))


def _program(name: str) -> str:
    return _find(name) or name


def _find(name: str) -> str | None:
    """Daemons are in folders that a user's PATH may lack."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
