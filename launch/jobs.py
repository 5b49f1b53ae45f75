"""The kinds of job: what each checks, which command its tasks run, and which body its script has."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from launch.resources import Resources
from smoe_ds.errors import LaunchError
from smoe_ds.run.folder import RunFolder

_DATA_PREP_STOPPED = 143  # 128 + SIGTERM, what python -m data_prep ends with after one


class Parser(argparse.ArgumentParser):
    """Usage errors in one line, as all others."""

    def error(self, message: str) -> NoReturn:
        raise LaunchError(f"{self.prog}: {message}; see {self.prog} --help")


@dataclass(frozen=True)
class Job:
    """A kind of job, checked.

    Attributes:
        what: the script's first line.
        module: that every task runs, with its arguments.
        logs: folder of the logs.
        body: template of the script's last part.
        signal: that the tasks get before the time limit; None: none.
        srun: further options of srun, with the reason.
        values: of the body's placeholders.
        folders: that a container has to see.
        from_checkout: whether the module is one that is not installed but run from the checkout.
        notes: for the user who renders.
    """

    what: str
    module: list[str]
    logs: Path
    body: str
    signal: str | None
    srun: list[str]
    values: dict[str, str]
    folders: list[Path]
    from_checkout: bool = False
    notes: list[str] = field(default_factory=list)


def train_job(
    run_file: Path, overrides: Sequence[str], resources: Resources, gpu_memory: float | None, arguments: Sequence[str]
) -> Job:
    """``smoe-ds train`` with a task for every rank.

    Raises:
        ConfigError: what ``smoe-ds validate --world-size`` would say.
        LaunchError: the memory does not do, or arguments are wrong.
    """
    from launch.memory import check_memory
    from smoe_ds.cli import train
    from smoe_ds.config import check_device, check_world, load_run

    config = load_run(str(run_file), overrides)
    check_world(config, resources.tasks)
    if resources.gpus_per_node and resources.gpu_type == "v100":
        check_device(config, "cuda", (7, 0))
    words, _ = _words("train", [str(run_file.absolute()), *_sets(overrides), *arguments], train)
    steps = config.train_batch_size // resources.tasks
    notes = [
        f"{run_file}: valid on {resources.tasks} ranks, with gradient_accumulation_steps {steps}",
        check_memory(config, resources, gpu_memory),
    ]
    data, run = (Path(path).absolute() for path in (config.smoe.data.path, config.smoe.train.output_dir))
    if resources.gpus_per_node and config.precision == "fp32":
        notes.append(
            f"{run_file}: trains in fp32, as the engine files for CPUs do, which is slow on GPUs; extend "
            "ds_configs/engine/h200_bf16_zero1.json (H200, H100, A100) or v100_fp16_zero1.json instead"
        )
    if not data.is_dir():
        notes.append(f"{data}: does not exist yet; it must when the job starts (smoe.data.path)")
    patience = round(config.smoe.train.death_deadline) + 60
    return Job(
        what=f"Trains {run_file.name} on {resources.tasks} ranks.",
        module=["smoe_ds", *words],
        logs=RunFolder(run).logs,
        body="resumable",
        signal="USR1",
        srun=[
            f"--mpi=none --kill-on-bad-exit=0 --wait={patience}"
            " # if a rank dies, the others stop by themselves and say which it was: srun waits for that"
        ],
        values=_train_values(run),
        folders=[run_file.absolute().parent, data, run],
        notes=notes,
    )


def _train_values(run: Path) -> dict[str, str]:
    in_shell = RunFolder(Path("$run"))
    return {
        "NAMES": f"run={shlex.quote(str(run))}\n",
        "PROGRESS": f'cat -- "{in_shell.latest}" 2>/dev/null || true',
        "STOPPED": "75",
        "BEFORE": f'rm -f -- "{in_shell.stopped}" # an earlier job\'s\n',
        "WHEN_STOPPED": f'if [[ -e "{in_shell.stopped}" ]]; then\n'
        f'      say "stopped by the file {in_shell.stop.name}; not requeued. Submit the same script again to go on."\n'
        "      exit 75\n    fi\n    ",
        "WHEN_FAILED": f'if [[ "{in_shell.crash}" -nt "$logs/started" ]]; then\n'
        f'      say "what failed first:"\n      cat -- "{in_shell.crash}"\n    fi\n    ',
    }


def evaluate_job(run: Path, overrides: Sequence[str], resources: Resources, arguments: Sequence[str]) -> Job:
    """``smoe-ds evaluate`` with its directions spread over the tasks.

    Raises:
        ConfigError: an override is wrong.
        LaunchError: there is no such run, or arguments are wrong.
    """
    from smoe_ds.cli import evaluate
    from smoe_ds.config import load_run

    words, args = _words("evaluate", [str(run.absolute()), *_sets(overrides), *arguments], evaluate)
    folder = RunFolder.containing(run.absolute())
    if folder is None:
        raise LaunchError(f"{run}: has no config.json; name a run folder, a checkpoint in it or an exported model")
    data = args.data or Path(load_run(folder.config, overrides).smoe.data.path)
    output = (args.output or folder.scores).absolute()
    return Job(
        what=f"Evaluates {run.name} on {resources.tasks} ranks.",
        module=["smoe_ds", *words],
        logs=RunFolder(output.parent).logs,
        body="once",
        signal=None,
        srun=[
            "--mpi=none --kill-on-bad-exit=1 # if a task fails, the others end too: a table is complete or not there"
        ],
        values={},
        folders=[folder.path.absolute(), data.absolute(), output.parent],
    )


def prepare_job(
    spec_file: Path, overrides: Sequence[str], resources: Resources, mpi: str | None, arguments: Sequence[str]
) -> Job:
    """``python -m data_prep``, its work shared by the tasks of an array job or the ranks of an MPI job.

    Raises:
        ConfigError: the specification is wrong.
        DataError: a file of it is missing.
        LaunchError: arguments are wrong.
    """
    from data_prep.check_files import check_files
    from data_prep.cli import argument_parser
    from data_prep.output.folder import work_folder
    from data_prep.spec.load_spec import find_spec, load_spec

    file, base = find_spec(spec_file)
    given = str(spec_file) if file != spec_file else str(spec_file.absolute())
    words = [given, *_sets(overrides), *(["--share"] if resources.array else []), *arguments]
    args = argument_parser().parse_args(words)
    spec = load_spec(file, overrides, base)
    check_files(spec, base)
    if resources.tasks > 1 and mpi is None:
        raise LaunchError(
            f"--kind prepare with {resources.tasks} tasks: they share the work over MPI (--mpi pmi2 or pmix, "
            "whichever the cluster has), or as tasks of an array job (--array N, no MPI needed)"
        )
    output = (args.output or base / spec.output).absolute()
    return Job(
        what=f"Prepares the corpus {output.name}.",
        module=["data_prep", *words],
        logs=output.with_name(f"{output.name}.logs"),
        body="once" if mpi else "resumable",  # MPI ends ranks that are told to stop as if they had failed
        signal=None if mpi else "TERM",
        srun=[f"--mpi={mpi or 'none'} --kill-on-bad-exit={1 if mpi else 0}"],
        values={
            "NAMES": f"records={shlex.quote(str(work_folder(output) / 'records'))} # of finished pieces\n",
            "PROGRESS": "{ find \"$records\" -name '*.json' 2>/dev/null || true; } | wc -l",
            "STOPPED": str(_DATA_PREP_STOPPED),
            "BEFORE": "",
            "WHEN_STOPPED": "",
            "WHEN_FAILED": "",
        },
        folders=[spec_file.absolute().parent, output.parent],
        from_checkout=True,
    )


def study_job(
    study_file: Path, overrides: Sequence[str], resources: Resources, gpu_memory: float | None, arguments: Sequence[str]
) -> Job:
    """``smoe-ds study``, its runs shared by the tasks of an array job: each takes the next one that nobody has.

    Raises:
        ConfigError: the study or one of its runs is wrong.
        LaunchError: the memory does not do, there are too few GPUs, or arguments are wrong.
    """
    from launch.memory import check_memory
    from smoe_ds.cli import study as command
    from smoe_ds.config.overrides import parse_override
    from smoe_ds.study.processes import shares
    from smoe_ds.study.spec import load_study

    words, args = _words("study", [str(study_file.absolute()), *_sets(overrides), *arguments], command)
    settings = {".".join(key): value for key, value in map(parse_override, args.settings)}
    study = load_study(study_file, settings, args.output, args.ranks)
    shares([str(number) for number in range(resources.gpus_per_node)], args.jobs, study.spec.ranks)
    one_run = replace(resources, tasks_per_node=study.spec.ranks)
    needed = {run.name: check_memory(run.config, one_run, gpu_memory) for run in study.runs}
    output, data = study.output.absolute(), {Path(run.config.smoe.data.path).absolute() for run in study.runs}
    missing = [f"{path}: does not exist yet; it must when the job starts" for path in sorted(data) if not path.is_dir()]
    used = args.jobs * study.spec.ranks
    idle = [f"--gpus-per-node {resources.gpus_per_node}: the runs use {used} of them; add -- --jobs or --ranks"]
    idle = idle if used < resources.gpus_per_node else []
    return Job(
        what=f"Trains and compares the systems of {study_file.name}.",
        module=["smoe_ds", *words],
        logs=RunFolder(output).logs,
        body="resumable",
        signal="USR1",
        srun=["--mpi=none --kill-on-bad-exit=0"],
        values={
            "NAMES": f"study={shlex.quote(str(output))}\n",
            "PROGRESS": _STUDY_PROGRESS,
            "STOPPED": "75",
            "BEFORE": "",
            "WHEN_STOPPED": "",
            "WHEN_FAILED": "",
        },
        folders=[study_file.absolute().parent, study.base.absolute().parent, *sorted(data), output],
        notes=[f"{study_file}: {len(study.runs)} runs of {len(needed)} systems", *missing, *idle],
    )


_STUDY_PROGRESS = (
    '{ cat -- "$study/results.jsonl" "$study"/runs/*/checkpoints/latest 2>/dev/null || true; } |\n'
    """    awk '/^{/ { runs++ } /^step_/ { steps += substr($0, 6) } END { printf "%d runs, %d steps", runs, steps }'"""
)
"""How many runs have ended, and the steps of all that were saved, as one line of a script."""


def _sets(overrides: Sequence[str]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


def _words(command: str, words: list[str], module: ModuleType) -> tuple[list[str], argparse.Namespace]:
    """The command's words, and what its own parser makes of them."""
    parser = Parser(prog=f"smoe-ds {command}")
    module.add_arguments(parser)
    return [command, *words], parser.parse_args(words)
