"""The script of a job: the frame that all kinds share, around the body of its kind."""

from __future__ import annotations

import shlex
from pathlib import Path

from launch.jobs import Job
from launch.quoting import array_lines, check_log_path, check_printable, file_pattern, fill, sbatch_value
from launch.resources import Resources
from launch.software import Software

HERE = Path(__file__).resolve().parent
MARK = "Rendered by python -m launch render"
"""What every script says of itself."""


def render(job: Job, resources: Resources, software: Software, environment: Path) -> str:
    """A whole sbatch script.

    Args:
        job: what it runs.
        resources: what it asks for.
        software: where its python is.
        environment: file with the environment of NCCL, sourced where there are GPUs.

    Raises:
        LaunchError: a path or argument cannot be written into a script.
    """
    logs = check_log_path("logs", str(job.logs.absolute()))
    words = [*software.command(resources.gpus_per_node > 0, job.folders), "-m", *job.module]
    for word in (*words, str(Path.cwd()), str(environment), str(HERE.parent)):
        check_printable("script", word)
    job_log = "job_%A_%a.log" if resources.array else "job_%j.log"
    values = {
        "WHAT": check_printable("script", job.what),
        "SBATCH": "\n".join(resources.lines(job.signal)),
        "JOB_LOG": sbatch_value(f"{file_pattern(logs)}/{job_log}"),
        "WORKING_DIR": shlex.quote(str(Path.cwd())),
        "SETUP": "\n".join([software.setup, software.checkout(HERE.parent) if job.from_checkout else ""]).strip(),
        "CPUS_PER_TASK": str(resources.cpus_per_task),
        "DEVICE": _device(resources, environment),
        "LOGS": shlex.quote(logs),
        "COMMAND": array_lines(words),
        "SRUN": "\n".join(f"  {line}" for line in job.srun),
        "BODY": fill(_template(job.body), job.values),
    }
    script = _without_empty_runs(fill(_template("frame"), values))
    for line in script.split("\n"):
        check_printable("script", line)
    return script


def _template(name: str) -> str:
    return (HERE / "templates" / f"{name}.sh.in").read_text(encoding="utf-8").rstrip("\n")


def _device(resources: Resources, environment: Path) -> str:
    if not resources.gpus_per_node:
        return "export DS_ACCELERATOR=cpu"
    return f"export DS_ACCELERATOR=cuda\n# shellcheck disable=SC1091\n. {shlex.quote(str(environment))}"


def _without_empty_runs(script: str) -> str:
    """The script with at most one empty line in a row, and one line end at its end."""
    lines: list[str] = []
    for line in script.split("\n"):  # as the shell does: to it, other separators are text
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).rstrip("\n") + "\n"
