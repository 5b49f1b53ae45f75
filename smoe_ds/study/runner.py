"""Trains the runs of a study one after the other, or several at once, each a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from smoe_ds.file_lock import HeldError, locked
from smoe_ds.study.collect import collect
from smoe_ds.study.identity import write_identity
from smoe_ds.study.processes import command, environment, gpus, shares, tell_to_stop, threads_each
from smoe_ds.study.row import Row, append_row, done_keys, read_rows
from smoe_ds.study.spec import AnalyzeSpec, EvaluateSpec, Study, StudyRun
from smoe_ds.text_line import first_line

Say = Callable[[str], None]
_INTERRUPTED = 75
_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # the last one as a job gets it before its time limit
_OF_TORCHRUN = re.compile(r"^[EWI]\d{4} .*/elastic/", re.MULTILINE)


@dataclass
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; negative for a signal.
        peak_memory: most memory that it, or one of its ranks, held [bytes].
        last_word: the last line that it printed.
    """

    code: int
    peak_memory: int
    last_word: str


class Runner:
    """Trains what has not been trained.

    Args:
        study: the study.
        jobs: runs at once; they share the cores, and each has GPUs of its own if there are any.
        say: told what happens.

    Raises:
        LaunchError: there are too few GPUs for so many.
    """

    def __init__(self, study: Study, jobs: int, say: Say) -> None:
        self.study = study
        self.say = say
        self._threads = threads_each(jobs, study.spec.ranks, os.environ)
        self._shares = shares(gpus(os.environ), jobs, study.spec.ranks)
        self.stopping = False
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._errors: list[Exception] = []
        self._begun = _now()
        self._waiting = [run for run in study.runs if run.key not in done_keys(read_rows(study.results))]

    @property
    def waiting(self) -> list[StudyRun]:
        """Runs that are still to be trained, in their order."""
        return list(self._waiting)

    def run(self) -> bool:
        """Trains all of them; False if it was interrupted. Signals to stop let runs save themselves, then end.

        Raises:
            Exception: what went wrong beside the runs, whose own failures are rows.
        """
        workers = [threading.Thread(target=self._try, args=(devices,), daemon=True) for devices in self._shares]
        with self._signals():
            for worker in workers:
                worker.start()
            for worker in workers:
                while worker.is_alive():
                    worker.join(0.2)
        if self._errors:
            raise self._errors[0]
        return not self.stopping

    def _try(self, devices: Sequence[str]) -> None:
        try:
            self._work(devices)
        except Exception as error:  # told by `run`, in the main thread
            self._errors.append(error)

    def _work(self, devices: Sequence[str]) -> None:
        while not self.stopping:
            with self._lock:
                if not self._waiting:
                    return
                run = self._waiting.pop(0)
            try:
                with locked(run.folder.with_name(f"{run.folder.name}.lock"), self._no_locks):
                    if not self._is_settled(run):
                        self._train(run, devices)
            except HeldError as held:
                self.say(f"{run.name} seed {run.seed}: {held.holder} is at it")

    def _is_settled(self, run: StudyRun) -> bool:
        """Whether it has ended well, or has failed in another process since this one began."""
        rows = [row for row in read_rows(self.study.results) if row.key == run.key]
        return any(row.status == "done" or row.started >= self._begun for row in rows)

    def _no_locks(self) -> None:
        self.say(f"{self.study.output}: this file system has no locks; start the study only once at a time")

    def _train(self, run: StudyRun, devices: Sequence[str]) -> None:
        started, begun = _now(), time.monotonic()
        arguments = ["train", str(self.study.base), "--resume", "auto"]
        for text in run.overrides:
            arguments += ["--set", text]
        self.say(f"{run.name} seed {run.seed}: training in {run.folder}")
        write_identity(run.folder, run.identity)
        ended = self._call(arguments, run.folder.with_name(f"{run.folder.name}.log"), devices)
        if ended.code == _INTERRUPTED or self.stopping:
            self.say(f"{run.name} seed {run.seed}: stopped; the same command goes on with it")
            return
        error = "" if not ended.code else ended.last_word or f"exit code {ended.code}"
        for name, words in self._afterwards(run):
            if error:
                break
            measured = self._call(words, run.folder.with_name(f"{run.folder.name}.{name}.log"), devices)
            if self.stopping:
                return
            if measured.code:
                error = measured.last_word or f"exit code {measured.code}"
        row = collect(run, started, error, ended.peak_memory)
        append_row(self.study.results, row)
        minutes = (time.monotonic() - begun) / 60
        self.say(f"{run.name} seed {run.seed}: {_outcome(row)} ({minutes:.1f} min)")

    def _afterwards(self, run: StudyRun) -> Iterator[tuple[str, list[str]]]:
        """The commands that measure a trained run: a name for the log, and the words of each."""
        spec = self.study.spec
        if spec.evaluate is not None:
            yield "evaluate", ["evaluate", str(run.folder), *_text(spec.evaluate), "--samples", "0"]
        if spec.analyze is not None and not run.config.smoe.moe.is_dense:
            yield "analyze", ["analyze", str(run.folder), *_text(spec.analyze)]

    def _call(self, arguments: Sequence[str], log: Path, devices: Sequence[str]) -> Ended:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            begin = out.tell()
            with self._lock:
                process = subprocess.Popen(
                    command(self.study.spec.ranks, arguments),
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=environment(os.environ, self._threads, devices),
                    start_new_session=True,  # a Ctrl-C in the terminal comes through us
                )
                self._processes.append(process)
            if self.stopping:  # the signal came before the process was known
                tell_to_stop(process.pid, self.study.spec.ranks)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            with self._lock:
                self._processes.remove(process)
        said = log.read_bytes()[begin:].decode("utf-8", errors="replace")
        return Ended(process.returncode, usage.ru_maxrss * 1024, _last_word(said))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self.stopping = True
            for process in list(self._processes):
                tell_to_stop(process.pid, self.study.spec.ranks)

        before = {number: signal.signal(number, stop) for number in _STOP}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _text(settings: EvaluateSpec | AnalyzeSpec) -> list[str]:
    """The words that name the text to measure on."""
    return ["--split", settings.split, *([] if settings.limit is None else ["--limit", str(settings.limit)])]


def _last_word(printed: str) -> str:
    """The last line of the program itself; what torchrun says of the end of its ranks is left out."""
    own = _OF_TORCHRUN.split(printed, maxsplit=1)[0]
    return first_line(own.strip().split("\n")[-1])


def _outcome(row: Row) -> str:
    return f"failed: {row.error}" if row.status == "failed" else f"validation NLL {row.mean_nll:.4f}"
