"""The run folder: where everything in it lies, and which run folder a path means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smoe_ds import run_names as names
from smoe_ds.checkpoints import format as fmt


@dataclass(frozen=True)
class RunFolder:
    """Paths in a run folder; nothing need be there.

    Attributes:
        path: ``smoe.train.output_dir``.
    """

    path: Path

    @staticmethod
    def of_checkpoint(checkpoint: Path) -> RunFolder:
        """The run folder that a checkpoint, ``RUN/checkpoints/step_N``, belongs to."""
        return RunFolder(checkpoint.parent.parent)

    @staticmethod
    def containing(path: Path) -> RunFolder | None:
        """The run folder that is ``path`` or holds the checkpoint ``path``; None if neither has a configuration."""
        for folder in (RunFolder(path), RunFolder.of_checkpoint(path)):
            if folder.config.is_file():
                return folder
        return None

    @property
    def config(self) -> Path:
        return self.path / names.CONFIG

    @property
    def environment(self) -> Path:
        return self.path / names.ENVIRONMENT

    @property
    def tokenizer(self) -> Path:
        return self.path / names.TOKENIZER

    @property
    def checkpoints(self) -> Path:
        return self.path / names.CHECKPOINTS

    @property
    def latest(self) -> Path:
        """Names the newest checkpoint."""
        return self.checkpoints / fmt.LATEST

    @property
    def best(self) -> Path:
        """Names the checkpoint of lowest validation loss."""
        return self.checkpoints / fmt.BEST

    @property
    def history(self) -> Path:
        return self.path / names.HISTORY

    @property
    def tensorboard(self) -> Path:
        return self.path / names.TENSORBOARD

    @property
    def lock(self) -> Path:
        return self.path / names.LOCK

    @property
    def crash(self) -> Path:
        return self.path / names.CRASH

    @property
    def stop(self) -> Path:
        """Stops the run when it appears."""
        return self.path / names.STOP

    @property
    def stopped(self) -> Path:
        """What `stop` is called once it has stopped the run."""
        return self.path / names.STOPPED

    @property
    def logs(self) -> Path:
        return self.path / names.LOGS

    @property
    def scores(self) -> Path:
        return self.path / names.SCORES

    @property
    def analysis(self) -> Path:
        return self.path / names.ANALYSIS

    @property
    def report(self) -> Path:
        return self.path / names.REPORT

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of a step lies, or would."""
        return self.checkpoints / fmt.folder_name(step)

    def saved(self) -> list[Path]:
        """The committed checkpoints, newest first."""
        return fmt.step_folders(self.checkpoints)
