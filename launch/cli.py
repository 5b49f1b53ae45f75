"""``python -m launch render``: arguments in, a checked sbatch script out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from launch.jobs import Job, Parser, evaluate_job, prepare_job, study_job, train_job
from launch.resources import Resources
from launch.script import HERE, MARK, render
from launch.software import Software
from launch.target import check_kind
from smoe_ds.errors import LaunchError, SmoeError

_DESCRIPTION = """\
Writes the sbatch script of a job. Before that it checks everything: the run as smoe-ds validate and smoe-ds plan do,
the specification, the time limit, every name. Arguments after -- go to the command that the job runs."""

_EXAMPLES = """\
examples:
  python -m launch render RUN.json --nodes 4 --gpus-per-node 8 --time 24:00:00 --partition volta --output train.sh
  python -m launch render runs/mine --kind evaluate --gpus-per-node 8 --time 2:00:00 --output evaluate.sh
  python -m launch render mine.yaml --kind prepare --array 16 --cpus-per-task 16 --time 4:00:00 --output prepare.sh
  python -m launch render STUDY.yaml --kind study --array 6 --gpus-per-node 4 --time 24:00:00 --output study.sh
  sbatch train.sh

exit status: 0 rendered, 2 an error, which the message explains. launch/README.md walks you through it."""

_CPUS_PER_GPU = 4


def _parser() -> Parser:
    parser = Parser(prog="python -m launch", description="Jobs for SLURM.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    sub = commands.add_parser(
        "render",
        help="write the sbatch script of a job",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.add_argument(
        "target",
        type=Path,
        metavar="TARGET",
        help="to train: a run file; to evaluate: a run folder, checkpoint or export; to prepare: a specification or "
        "its name; to study: a study",
    )
    sub.add_argument(
        "--kind",
        choices=("train", "evaluate", "prepare", "study"),
        default="train",
        help="what the job does (default: train)",
    )
    sub.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="override a key; repeatable"
    )
    sub.add_argument("--output", type=Path, metavar="FILE", help="file for the script (default: standard output)")
    _add_resources(sub)
    _add_software(sub)
    return parser


def _add_resources(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("resources")
    group.add_argument(
        "--time", required=True, metavar="LIMIT", help="time limit as sbatch takes it: 24:00:00, 2-12, 90 (minutes)"
    )
    group.add_argument("--nodes", type=_positive, default=1, metavar="N", help="hosts (default 1)")
    group.add_argument(
        "--gpus-per-node",
        type=_natural,
        default=0,
        metavar="N",
        help="GPUs to use on each host, one task for each; to study: all for one task (default 0)",
    )
    group.add_argument(
        "--tasks-per-node", type=_positive, metavar="N", help="tasks on each host, without GPUs (default 1)"
    )
    group.add_argument(
        "--cpus-per-task", type=_positive, metavar="N", help=f"default {_CPUS_PER_GPU} with a GPU, 1 without"
    )
    group.add_argument("--mem", metavar="SIZE", help="memory on each host, e.g. 256G; 0: all of it")
    group.add_argument("--gpu-type", metavar="TYPE", help="type of GPU as the cluster names it, e.g. v100")
    group.add_argument(
        "--gpu-memory", type=float, metavar="GIB", help="refuse a run whose plan needs more memory on a GPU"
    )
    group.add_argument("--partition", metavar="NAME")
    group.add_argument("--account", metavar="NAME")
    group.add_argument("--qos", metavar="NAME")
    group.add_argument("--constraint", metavar="FEATURES")
    group.add_argument("--name", metavar="NAME", help="name of the job (default: from the target)")
    group.add_argument(
        "--array",
        type=_positive,
        metavar="N",
        help="to prepare, to study: share the work among N tasks of an array job",
    )
    group.add_argument(
        "--mpi", choices=("pmi2", "pmix"), help="to prepare: share the work among MPI ranks, started by srun --mpi"
    )
    group.add_argument(
        "--stop-before",
        type=_positive,
        default=300,
        metavar="SECONDS",
        help="how long before the time limit the tasks are told to save and be requeued (default 300)",
    )
    group.add_argument(
        "--sbatch", action="append", default=[], metavar="--OPTION=VALUE", help="another #SBATCH line; repeatable"
    )


def _add_software(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("software (default: this interpreter, by its path)")
    group.add_argument("--python", metavar="FILE", help="another interpreter")
    group.add_argument(
        "--module", action="append", default=[], metavar="NAME", help="run module load NAME first; repeatable"
    )
    group.add_argument("--venv", type=Path, metavar="DIR", help="activate a virtual environment")
    group.add_argument("--conda", metavar="NAME", help="activate a conda environment, by name or folder")
    group.add_argument("--container", type=Path, metavar="IMAGE", help="run in an Apptainer image")
    group.add_argument(
        "--bind",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="another folder for the container to see; repeatable",
    )
    group.add_argument(
        "--nccl-env",
        type=Path,
        default=HERE / "nccl_env.sh",
        metavar="FILE",
        help="settings for NCCL (default: launch/nccl_env.sh)",
    )


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number")
    return int(text)


def _positive(text: str) -> int:
    if _natural(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: arguments; None: the process's.

    Returns:
        the exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for_command: list[str] = []
    if "--" in arguments:
        place = arguments.index("--")
        arguments, for_command = arguments[:place], arguments[place + 1 :]
    try:
        args = _parser().parse_args(arguments)
        _write(args, for_command)
    except SmoeError as error:
        print(error, file=sys.stderr)
        return 2
    except SystemExit as stop:  # --help
        return stop.code if isinstance(stop.code, int) else 0
    return 0


def _write(args: argparse.Namespace, for_command: list[str]) -> None:
    resources, software = _resources(args), _software(args)
    resources.check()
    software.check()
    check_kind(args.target, args.kind)
    if not args.nccl_env.is_file():
        raise LaunchError(f"--nccl-env {args.nccl_env}: no such file; the default is {HERE / 'nccl_env.sh'}")
    job = _job(args, resources, for_command)
    script = render(job, resources, software, args.nccl_env.absolute())
    if args.output is not None:
        _check_may_write(args.output)
    _make_logs(job.logs)  # SLURM makes no folder for the log of a job, which would fail without a word
    for note in job.notes:
        print(note, file=sys.stderr)
    if args.output is None:
        print(script, end="")
        return
    try:
        args.output.write_text(script, encoding="utf-8")
        args.output.chmod(0o755)
    except OSError as error:
        raise LaunchError(f"--output {args.output}: cannot be written: {error.strerror}") from error
    print(f"{args.output}: submit it with: sbatch {args.output}; logs go to {job.logs}", file=sys.stderr)


def _resources(args: argparse.Namespace) -> Resources:
    gpus = args.gpus_per_node
    if gpus and args.tasks_per_node not in (None, gpus):
        raise LaunchError(
            f"--tasks-per-node {args.tasks_per_node} with --gpus-per-node {gpus}: each task has one GPU; leave out "
            "--tasks-per-node"
        )
    if args.array and args.kind not in ("prepare", "study"):
        raise LaunchError(f"--array is for --kind prepare and study, not for {args.kind}")
    if args.mpi and args.kind != "prepare":
        raise LaunchError(f"--mpi is for --kind prepare, not for {args.kind}")
    if args.kind == "study" and (args.nodes > 1 or args.tasks_per_node):
        raise LaunchError(
            "--kind study: a run has all of its ranks on one host; leave out --nodes and --tasks-per-node, and share "
            "the runs with --array N"
        )
    if args.array and (args.nodes > 1 or args.mpi):
        raise LaunchError("--array: every task of the array is a job on one node; leave out --nodes and --mpi")
    stem = args.target.name if args.kind == "evaluate" else args.target.stem
    default_name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in stem).lstrip("-")
    return Resources(
        name=args.name or f"{args.kind}-{default_name}",
        nodes=args.nodes,
        tasks_per_node=1 if args.kind == "study" else gpus or args.tasks_per_node or 1,
        gpus_per_node=gpus,
        cpus_per_task=args.cpus_per_task or _CPUS_PER_GPU * (gpus if args.kind == "study" else min(gpus, 1)) or 1,
        time=args.time,
        stop_before=0 if args.kind == "evaluate" else args.stop_before,
        partition=args.partition,
        account=args.account,
        qos=args.qos,
        constraint=args.constraint,
        mem=args.mem,
        gpu_type=args.gpu_type,
        array=args.array,
        options=tuple(args.sbatch),
    )


def _software(args: argparse.Namespace) -> Software:
    software = Software(
        python=args.python,
        modules=tuple(args.module),
        venv=args.venv,
        conda=args.conda,
        container=args.container,
        binds=tuple(args.bind),
    )
    brings_python = args.venv or args.conda or args.container or args.python
    return software if brings_python else replace(software, python=str(Path(sys.executable).absolute()))


def _job(args: argparse.Namespace, resources: Resources, for_command: list[str]) -> Job:
    if args.kind == "evaluate":
        return evaluate_job(args.target, args.overrides, resources, for_command)
    if args.kind == "prepare":
        return prepare_job(args.target, args.overrides, resources, args.mpi, for_command)
    if args.kind == "study":
        return study_job(args.target, args.overrides, resources, args.gpu_memory, for_command)
    return train_job(args.target, args.overrides, resources, args.gpu_memory, for_command)


def _check_may_write(output: Path) -> None:
    """Never over somebody else's file."""
    if output.exists() and not (output.is_file() and MARK in output.read_text(encoding="utf-8", errors="replace")):
        raise LaunchError(f"--output {output}: exists and is not a rendered script; choose another file")


def _make_logs(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"{folder}: cannot be made for the logs: {error.strerror}") from error
