"""The name of everything that lies directly in a run folder, once; `smoe_ds.run.folder.RunFolder` makes paths of them.

RUN/config.json        the resolved run
RUN/environment.json   versions, machine, git commit
RUN/tokenizer.model    copy of the vocabulary
RUN/checkpoints/       see `smoe_ds.checkpoints.format`
RUN/history.jsonl      every scalar that was logged, see `smoe_ds.run.history`
RUN/tensorboard/       the same for TensorBoard
RUN/run.lock           held by rank 0 of the start that trains here
RUN/alive-*/           signs of life of a start's ranks, while it runs
RUN/crash.json         why the last start failed, if it did
RUN/STOP, RUN/STOPPED  made by a user to stop the run; what the run makes of it when it has stopped
RUN/logs/              what the tasks of a SLURM job print
RUN/scores.json        what ``smoe-ds evaluate`` found, with RUN/translations/
RUN/analysis/          what ``smoe-ds analyze`` found
RUN/report.html        what ``smoe-ds report`` wrote
"""

from __future__ import annotations

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
TOKENIZER = "tokenizer.model"
CHECKPOINTS = "checkpoints"
HISTORY = "history.jsonl"
TENSORBOARD = "tensorboard"
LOCK = "run.lock"
ALIVE = "alive-"
"""Begins the name of a folder; see `smoe_ds.watch.heartbeat.alive_folder` for the rest of it."""
CRASH = "crash.json"
STOP = "STOP"
STOPPED = "STOPPED"
LOGS = "logs"
SCORES = "scores.json"
TRANSLATIONS = "translations"
ANALYSIS = "analysis"
REPORT = "report.html"
