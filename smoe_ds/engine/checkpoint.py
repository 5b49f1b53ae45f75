"""Saves and loads committed checkpoints: all ranks or none, verified before use, independent of topology.

Every parameter is stored whole under its logical name, experts by number, so a checkpoint written with any world size,
ep_size, ZeRO stage, precision or offload is read by any other. With the same topology a resumed run equals the
uninterrupted one bit for bit.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from smoe_ds.checkpoints import format as fmt
from smoe_ds.checkpoints.commit import (
    commit_folder,
    discard_folder,
    prune,
    remove_leftovers,
    temporary_folder,
    write_text_durably,
)
from smoe_ds.checkpoints.format import MASTER
from smoe_ds.checkpoints.part_file import FileEntry
from smoe_ds.checkpoints.part_reader import PartReader
from smoe_ds.engine.ownership import assign_owners
from smoe_ds.engine.protocol import Engine
from smoe_ds.engine.state import (
    engine_counters,
    held_nowhere,
    held_shapes,
    persistent_buffers,
    restore_counters,
    restore_state,
    without_moments,
)
from smoe_ds.engine.write_parts import write_parts
from smoe_ds.errors import CheckpointError
from smoe_ds.parallel.agreement import agree, gather_json, together
from smoe_ds.versions import installed_versions

_LOG = logging.getLogger(__name__)
_PACKAGES = ("torch", "deepspeed", "safetensors")


def save_checkpoint(
    engine: Engine, root: Path, step: int, extra: dict[str, Any], *, keep_last: int, best: bool = False
) -> Path:
    """Writes a checkpoint and commits it when all ranks have written theirs. Call it on every rank, between steps.

    Args:
        engine: the DeepSpeed engine, at an accumulation boundary.
        root: folder of checkpoints, the same for all ranks (a shared file system).
        step: number of this checkpoint.
        extra: what else to keep, as JSON; rank 0's is written.
        keep_last: newest checkpoints to keep up to this one; the best is kept besides.
        best: whether this is the best so far.

    Returns:
        The committed folder.

    Raises:
        CheckpointError: on all ranks, if any rank could not write; nothing is committed or removed then.
    """
    if pending := engine.micro_steps % engine.gradient_accumulation_steps():
        raise CheckpointError(
            f"step {step}: {pending} micro-batches of the next step are already accumulated; "
            "save after engine.step() at an accumulation boundary"
        )
    what = f"saving step {step} to {root}"
    final = root / fmt.folder_name(step)
    temporary = _open_together(root, final, what)
    try:
        entries, problem = write_parts(engine, temporary)
        agree(problem, CheckpointError, what)
        everyone = gather_json([entry.as_json() for entry in entries])
        with together(CheckpointError, what):
            if _rank() == 0:
                files = [FileEntry(**entry) for rank_entries in everyone for entry in rank_entries]
                _commit(engine, temporary, final, files, extra, best)
    except CheckpointError:
        if _rank() == 0 and temporary.exists():
            discard_folder(temporary)
        raise
    if _rank() == 0:
        _prune(final, keep_last)
    return final


def load_checkpoint(engine: Engine, root: Path) -> dict[str, Any] | None:
    """Loads the newest checkpoint that is whole into the engine. Call it on every rank.

    What was refused, and why, goes to the log (warning, rank 0).

    Args:
        engine: the DeepSpeed engine, normally before its first step.
        root: folder of checkpoints.

    Returns:
        What the trainer handed to `save_checkpoint`, or None if there is no checkpoint at all.

    Raises:
        CheckpointError: there are checkpoints but none is whole, or the newest whole one does not fit the model.
    """
    names, refused = gather_json(_candidates(root) if _rank() == 0 else None)[0]
    for name in names:
        problem = verify_together(root / name)
        if problem is None:
            _report(refused, f"resuming from {name}")
            return _load(engine, root / name)
        refused.append(problem)
    if names:
        raise CheckpointError(f"{root}: no checkpoint is whole: {'; '.join(refused)}")
    _report(refused, "no checkpoint to resume from")
    return None


def verify_together(folder: Path) -> str | None:
    """What is wrong with a checkpoint, None if nothing. Call it on every rank; each hashes its share of the files."""
    import torch.distributed as dist

    problem = None
    try:
        files = fmt.read_manifest(folder).files
        ranks = range(dist.get_world_size())
        reader = assign_owners({e.name: e.bytes for e in files}, {e.name: ranks for e in files})
        for entry in files:
            if reader[entry.name] == _rank():
                fmt.verify_file(folder, entry)
    except CheckpointError as error:
        problem = str(error)
    problems = sorted({text for text in gather_json(problem) if text is not None})
    return "; ".join(problems) or None


def _open_together(root: Path, final: Path, what: str) -> Path:
    """A temporary folder that rank 0 makes and all ranks see."""
    name = ""
    with together(CheckpointError, what):
        if _rank() == 0:
            root.mkdir(parents=True, exist_ok=True)
            remove_leftovers(root, *fmt.LEFTOVERS)
            name = temporary_folder(final).name
    temporary = root / str(gather_json(name)[0])
    with together(CheckpointError, what):
        if not temporary.is_dir():
            raise CheckpointError(f"{temporary} is not visible; use a file system that all ranks share")
    return temporary


def _commit(
    engine: Engine, temporary: Path, final: Path, files: list[FileEntry], extra: dict[str, Any], best: bool
) -> None:
    """Finishes, names and points to the folder.

    Raises:
        CheckpointError: that cannot be done; there is no folder then.
    """
    step, renamed = fmt.step_of(final), False
    try:
        files.append(fmt.write_state(temporary, _state(engine, step, extra)))
        fmt.write_manifest(temporary, step, files)
        commit_folder(temporary, final)
        renamed = True
        for pointer in (fmt.LATEST, fmt.BEST) if best else (fmt.LATEST,):
            write_text_durably(final.parent / pointer, final.name + "\n")
    except (OSError, TypeError, ValueError) as error:
        if renamed:
            discard_folder(final)
        raise CheckpointError(f"{type(error).__name__}: {error}") from error


def _state(engine: Engine, step: int, extra: dict[str, Any]) -> dict[str, Any]:
    return {
        "step": step,
        "extra": extra,
        "engine": engine_counters(engine),
        "topology": _topology(engine),
        "versions": installed_versions(_PACKAGES),
    }


def _prune(final: Path, keep_last: int) -> None:
    """Removes checkpoints that are neither among the last nor the best; later steps, once refused, are left alone."""
    root = final.parent
    past = [folder for folder in fmt.step_folders(root) if fmt.step_of(folder) <= fmt.step_of(final)]
    best = root / (fmt.read_pointer(root, fmt.BEST) or final.name)
    try:
        prune(past, [*past[:keep_last], best])
    except OSError as error:
        _LOG.warning("%s: an old checkpoint could not be removed: %s", root, error)


def _candidates(root: Path) -> tuple[list[str], list[str]]:
    """Folder names, newest first, and what is wrong with ``latest``."""
    names = [folder.name for folder in fmt.step_folders(root)]
    latest = fmt.read_pointer(root, fmt.LATEST)
    dangling = latest is not None and latest not in names
    return names, [f"{root / fmt.LATEST}: points to {latest!r}, which does not exist"] if dangling else []


def _load(engine: Engine, folder: Path) -> dict[str, Any]:
    reader, state = _open(folder)
    if not reader.steps:
        raise CheckpointError(
            f"{folder}: has weights but no optimizer state, so no run can continue from it; start a new run from it "
            "with smoe.train.init_from and another smoe.train.output_dir"
        )
    shapes = held_shapes(engine.module)
    agree(reader.misfit(shapes), CheckpointError, f"loading {folder} into this model")
    if nowhere := held_nowhere(reader.names, shapes):
        raise CheckpointError(
            f"{folder}: {len(nowhere)} parameters are not in this model, the first is {nowhere[0]}; "
            "the checkpoint belongs to another model configuration"
        )
    lacking = without_moments(engine.module, reader.steps)
    problem = f"{len(lacking)} parameters were frozen when it was saved, the first is {lacking[0]}" if lacking else None
    agree(
        problem and f"{problem}; freeze them again (smoe.train.freeze), or start a new run with smoe.train.init_from",
        CheckpointError,
        f"loading {folder}",
    )
    restore_state(engine, reader.tensor, reader.steps)
    for name, buffer in persistent_buffers(engine.module).items():
        buffer.copy_(reader.tensor(name, MASTER))
    restore_counters(engine, state["engine"])
    extra: dict[str, Any] = state["extra"]
    return extra


def _open(folder: Path) -> tuple[PartReader, dict[str, Any]]:
    """The verified files. What cannot be read by one rank is an error of all."""
    with together(CheckpointError, f"reading {folder}"):
        return PartReader(folder, fmt.read_manifest(folder)), fmt.read_state(folder)


def _topology(engine: Engine) -> dict[str, Any]:
    import torch.distributed as dist

    model_dtype, gradient_dtype = engine.get_data_types()
    groups = sorted({group["name"] for group in engine.optimizer.param_groups if group.get("moe")})
    return {
        "world_size": dist.get_world_size(),
        "ep_size": max((int(name.rpartition("_")[2]) for name in groups), default=1),
        "zero_stage": int(engine.zero_optimization_stage()),
        "offload": bool(engine.zero_use_cpu_optimizer()),
        "expert_groups": groups,
        "gradient_accumulation_steps": engine.gradient_accumulation_steps(),
        "model_dtype": str(model_dtype).removeprefix("torch."),
        "gradient_dtype": str(gradient_dtype).removeprefix("torch."),
        "optimizer": type(engine.basic_optimizer).__name__,
    }


def _report(refused: list[str], then: str) -> None:
    if refused and _rank() == 0:
        _LOG.warning("refused: %s; %s", "; ".join(refused), then)


def _rank() -> int:
    import torch.distributed as dist

    return dist.get_rank()
