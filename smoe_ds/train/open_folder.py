"""Opens the run folder for training: rank 0 looks and writes, and all ranks hear of what is wrong."""

from __future__ import annotations

from pathlib import Path

from smoe_ds.config.run import RunConfig
from smoe_ds.errors import CheckpointError
from smoe_ds.parallel.agreement import together
from smoe_ds.parallel.env import Env
from smoe_ds.run.folder import RunFolder
from smoe_ds.run.record import check_continues, write_record
from smoe_ds.train.log_listeners import Listener, open_listeners
from smoe_ds.train.progress import Progress


def check_folder(folder: RunFolder, run: RunConfig, rank: int, *, resume: bool) -> None:
    """Whether a run may start in a folder. A collective.

    Args:
        folder: the run folder.
        run: what is to be trained.
        rank: this rank.
        resume: whether to go on from the checkpoints that are there; otherwise there must be none.

    Raises:
        CheckpointError: it may not; on all ranks.
    """
    with together(CheckpointError, "opening the run folder"):
        if rank == 0 and resume:
            check_continues(folder, run)
        elif rank == 0 and folder.saved():
            raise CheckpointError(
                f"{folder.checkpoints} already has checkpoints; continue with --resume auto, "
                "or choose another smoe.train.output_dir"
            )


def write_folder(folder: RunFolder, run: RunConfig, tokenizer: Path, progress: Progress, env: Env) -> list[Listener]:
    """Records the run in its folder and opens its logs. A collective.

    Args:
        folder: the run folder.
        run: what is trained.
        tokenizer: file of the vocabulary.
        progress: what the run goes on from.
        env: this process.

    Returns:
        Who hears what this rank tells.

    Raises:
        CheckpointError: the folder cannot be written; on all ranks.
    """
    with together(CheckpointError, "writing the run folder"):
        try:
            if env.rank == 0:
                write_record(folder, run, tokenizer, env.world_size)
            listeners = open_listeners(folder, progress, env.rank)
        except OSError as error:
            raise CheckpointError(f"{error}; choose another smoe.train.output_dir") from error
    return listeners
