"""Whether checkpoints can be written to the run folder: space, inodes, and the very operations a checkpoint needs."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, NOTE, OK, Finding
from smoe_ds.run.folder import RunFolder

_BYTES_PER_PARAMETER = 12  # fp32 weights and Adam's two moments
_FILES_PER_RANK = 4  # of a checkpoint, with a few of the log
_PROBE = 1 << 20  # bytes written to try it out
_COARSE = 2.0  # seconds that a file's time may be rounded by


def check_run_folder(context: Context) -> Iterator[Finding]:
    """Writes, forces to disk, renames and reads a file; compares space and inodes; on the first rank of each host."""
    if not context.meeting.first_on_host:
        return
    folder = context.output_dir
    start = time.perf_counter()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        late = _try_out(folder, f"doctor-{context.env.rank}-{os.getpid()}", context)
    except OSError as error:
        yield _cannot(folder, error)
        return
    took = time.perf_counter() - start
    yield Finding(
        OK,
        f"{folder}: wrote {{size:bytes}}, forced it to disk, renamed and read it in {{took:seconds}}",
        figures={"size": _PROBE, "took": took},
        scope="host",
    )
    if abs(late) > _COARSE:
        yield Finding(
            NOTE,
            f"{folder}: the clock of its file system is off this host's by {{late:seconds}}",
            "synchronise the clocks of hosts and file server (NTP); ages of files are wrong",
            {"late": late},
            scope="host",
        )
    yield _space(context, folder)


@contextmanager
def folder_made(folder: Path) -> Iterator[None]:
    """Makes the folder if it can be; what was made is removed afterwards where it is still empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with contextlib.suppress(OSError):  # the checks meet it again, and say it
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # not made after all, or in use by now
                path.rmdir()


def checkpoint_bytes(parameters: int) -> int:
    """Size of one checkpoint of so many parameters, experts of all ranks included."""
    return _BYTES_PER_PARAMETER * parameters


def space_finding(need: float, free: float, files: int, free_files: int | None, folder: Path, what: str) -> Finding:
    """What checkpoints will need against what is free.

    Args:
        need: [bytes].
        free: [bytes].
        files: that will be made.
        free_files: inodes; None where the file system has no limit.
        folder: the run folder.
        what: what needs it, in words.
    """
    figures = {"need": need, "free": free}
    text = f"{folder}: {{need:bytes}} for {what}, {{free:bytes}} free"
    if need > free:
        remedy = "free some, choose another smoe.train.output_dir, or lower smoe.train.keep_last"
        return Finding(FAILED, text, remedy, figures, scope="host")
    if free_files is not None and files > free_files:
        return Finding(
            FAILED,
            f"{folder}: {{files:count}} files for {what}, {{left:count}} inodes free",
            "remove files there, best many small ones, or choose another smoe.train.output_dir",
            {"files": files, "left": free_files},
            scope="host",
        )
    return Finding(OK, text, figures=figures, scope="host")


def _space(context: Context, folder: Path) -> Finding:
    keep = context.run.smoe.train.keep_last + 2  # the best one besides, and the next before the oldest goes
    saved = RunFolder(folder).saved()
    there = sum(path.stat().st_size for old in saved for path in old.iterdir() if path.is_file())
    size = checkpoint_bytes(context.plan.parameters["total"])
    stat = os.statvfs(folder)
    return space_finding(
        max(keep * size - there, size),
        stat.f_bavail * stat.f_frsize,
        keep * (context.env.world_size * _FILES_PER_RANK),
        stat.f_favail if stat.f_files else None,
        folder,
        f"{keep} checkpoints" + (", some of them there" if there else ""),
    )


def _try_out(folder: Path, name: str, context: Context) -> float:
    """What a checkpoint does, on a small file; how late the file system's clock is [s]."""
    path, renamed = folder / f".{name}.tmp", folder / f".{name}"
    content = os.urandom(_PROBE)
    try:
        before = context.clock()
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        after = context.clock()
        path.replace(renamed)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if renamed.read_bytes() != content:
            raise OSError(0, "the bytes read are not those written", str(renamed))
        written = renamed.stat().st_mtime
        return written - min(max(written, before), after)
    finally:
        path.unlink(missing_ok=True)
        renamed.unlink(missing_ok=True)


def _cannot(folder: Path, error: OSError) -> Finding:
    return Finding(
        FAILED,
        f"{folder}: cannot be written: {error.strerror or error}",
        "free space, fix its permissions or quota, or choose another smoe.train.output_dir",
        scope="host",
    )
