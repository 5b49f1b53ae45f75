"""What the run folder already has: the checkpoint it would continue from, and whether another run works in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from smoe_ds.checkpoints import format as fmt
from smoe_ds.checkpoints.inspection import summarize
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED, Finding
from smoe_ds.errors import SmoeError
from smoe_ds.file_lock import HeldError, locked
from smoe_ds.run.folder import RunFolder
from smoe_ds.weights.start_from import OTHER_FUNCTION, other_function


def check_checkpoints(context: Context) -> Iterator[Finding]:
    """Newest checkpoints, weights to start with, the lock; on rank 0."""
    if context.env.rank > 0:
        return
    folder = context.output_dir
    yield from checkpoint_findings(folder, full=context.full)
    if not RunFolder(folder).saved():
        yield from initial_findings(context.run.smoe)
    yield lock_finding(folder)


def checkpoint_findings(folder: Path, *, full: bool) -> Iterator[Finding]:
    """Whether the newest checkpoint of a run folder is whole, or which one would be taken instead."""
    found = RunFolder(folder).saved()
    if not found:
        yield Finding(SKIPPED, f"{folder}: has no checkpoint; the run begins at step 0", scope="run")
        return
    how = "every byte is as written" if full else "sizes are as written (--full reads every byte)"
    for number, path in enumerate(found):
        problems = summarize(path, hashes=full).problems
        if not problems:
            step = fmt.step_of(path)
            if number:
                yield Finding(
                    NOTE,
                    f"the run would continue from {path.name}, {number} before the newest; {how}",
                    f"restore the damaged ones if step {step} is too far back",
                    scope="run",
                )
            else:
                yield Finding(OK, f"the run would continue from {path}, step {step:,}: {how}", scope="run")
            return
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        yield Finding(NOTE, f"{problems[0]}{more}", scope="run")
    yield Finding(
        FAILED,
        f"{folder}: none of its {len(found)} checkpoints is whole",
        "restore one, or choose another smoe.train.output_dir to start over",
        scope="run",
    )


def lock_finding(folder: Path) -> Finding:
    """Whether another start of a run holds the run folder; the lock is held for a moment to find out."""
    path = RunFolder(folder).lock
    if not path.exists():
        return Finding(OK, f"{folder}: no other run is at work in it", scope="run")
    no_locks: list[str] = []
    try:
        with locked(path, lambda: no_locks.append("none"), sign=False):
            pass
    except HeldError as error:
        return Finding(
            FAILED,
            f"{folder}: {error.holder} is training in it ({path} is locked)",
            "wait for it, stop it, or choose another smoe.train.output_dir",
            scope="run",
        )
    if no_locks:
        return Finding(
            NOTE, f"{folder}: this file system has no locks", "do not start a second run in this folder", scope="run"
        )
    return Finding(OK, f"{folder}: no other run is at work in it", scope="run")


def initial_findings(smoe: SmoeConfig) -> Iterator[Finding]:
    """Whether the weights that a run starts with are there, and compute in it what they were trained for."""
    if (init_from := smoe.train.init_from) is None:
        return
    if not Path(init_from).exists():
        yield Finding(
            FAILED,
            f"smoe.train.init_from: {init_from} does not exist",
            "name a run folder, checkpoint or export",
            scope="run",
        )
        return
    try:
        problem, remedy = other_function(Path(init_from), smoe), OTHER_FUNCTION
    except SmoeError as error:
        problem, remedy = str(error), "name a run folder, checkpoint or export with weights"
    if problem:
        yield Finding(FAILED, f"smoe.train.init_from: {init_from}: {problem}", remedy, scope="run")
