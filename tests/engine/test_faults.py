"""Damage is refused by name and an older checkpoint taken; failed or killed saves leave nothing half-done."""

from __future__ import annotations

import logging
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from smoe_ds.checkpoints.format import read_weights, resolve_checkpoint, step_folders
from smoe_ds.errors import CheckpointError
from tests.helpers.engines import Setup, make_engine, train
from tests.helpers.ranks import RankError, run_ranks

pytestmark = pytest.mark.multirank

SETUP = Setup(1, ep_size=2)


def _flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights: bit flip": (lambda f: _flip_bit(f / "model-00001.safetensors"), r"model-00001.safetensors: SHA-256 is"),
    "moments: truncated": (lambda f: _truncate(f / "optimizer-00000.safetensors"), r"optimizer-00000.*bytes, expected"),
    "weights: missing": (lambda f: (f / "model-00000.safetensors").unlink(), r"model-00000.safetensors: missing"),
    "state: bit flip": (lambda f: _flip_bit(f / "state.json"), r"state.json: SHA-256 is"),
    "manifest: missing": (lambda f: (f / "manifest.json").unlink(), r"manifest.json is missing"),
    "manifest: bit flip": (lambda f: _flip_bit(f / "manifest.json"), r"manifest.json: .*damaged"),
    "manifest: truncated": (lambda f: _truncate(f / "manifest.json"), r"manifest.json: cannot be read"),
    "manifest: of another step": (
        lambda f: shutil.copy(f.with_name("step_00000002") / "manifest.json", f / "manifest.json"),
        r"manifest.json: expected format, version and step .*3\), found .*2\)",
    ),
    "folder gone": (lambda f: shutil.rmtree(f), r"latest: points to 'step_00000003', which does not exist"),
}


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _save_three_and_damage(rank: int, world_size: int, root: Path) -> dict[str, Any]:
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    engine = make_engine(rank, world_size, SETUP)
    nothing = load_checkpoint(engine, root / "good")
    kept = {}
    for step in (1, 2, 3):
        train(engine, rank, world_size, step - 1, step)
        save_checkpoint(engine, root / "good", step, {"step": step}, keep_last=3, best=step == 1)
    log = _Messages()
    logging.getLogger("smoe_ds.engine.checkpoint").addHandler(log)
    results: dict[str, Any] = {"nothing": nothing}
    for name, (damage, _) in DAMAGE.items():
        folder = root / name.replace(":", "").replace(" ", "-")
        if rank == 0:
            shutil.copytree(root / "good", folder)
            damage(folder / "step_00000003")
        dist.barrier()
        log.texts.clear()
        results[name] = (load_checkpoint(engine, folder), list(log.texts))
    results["all"] = _all_damaged(rank, engine, root)
    for step in (4, 5, 6):  # the best and the last two stay
        train(engine, rank, world_size, step - 1, step)
        save_checkpoint(engine, root / "good", step, {"step": step}, keep_last=2)
        kept[step] = sorted(folder.name for folder in (root / "good").iterdir())
        dist.barrier()  # rank 0 of the next save would otherwise already be writing
    results["kept"] = kept
    return results


def _all_damaged(rank: int, engine: Any, root: Path) -> str:
    from smoe_ds.engine.checkpoint import load_checkpoint

    if rank == 0:
        shutil.copytree(root / "good", root / "all")
        for folder in step_folders(root / "all"):
            _flip_bit(folder / "optimizer-00001.safetensors")
    dist.barrier()
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(engine, root / "all")
    return str(error.value)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("faults")
    return root, run_ranks(_save_three_and_damage, 2, root)


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_the_older_checkpoint_taken(damaged: tuple[Path, list[dict[str, Any]]], name: str) -> None:
    for rank, results in enumerate(damaged[1]):
        extra, messages = results[name]
        assert extra == {"step": 2}, rank
        if rank == 0:
            (message,) = messages
            assert re.search(DAMAGE[name][1], message), message
            assert message.endswith("resuming from step_00000002")
        else:
            assert messages == []


def test_nothing_at_all_is_no_error_but_nothing_whole_is(damaged: tuple[Path, list[dict[str, Any]]]) -> None:
    for results in damaged[1]:
        assert results["nothing"] is None
        assert "no checkpoint is whole" in results["all"]
        assert all(f"step_0000000{step}/optimizer-00001.safetensors" in results["all"] for step in (1, 2, 3))


def test_best_and_last_are_kept(damaged: tuple[Path, list[dict[str, Any]]]) -> None:
    root, results = damaged
    for step, names in results[0]["kept"].items():
        assert names == ["best", "latest", "step_00000001", f"step_{step - 1:08d}", f"step_{step:08d}"]
    good = root / "good"
    assert resolve_checkpoint(good, "best").name == "step_00000001"
    assert resolve_checkpoint(good, "latest").name == "step_00000006"
    assert resolve_checkpoint(good, 5) == resolve_checkpoint(good / "step_00000005", "best")
    with pytest.raises(CheckpointError, match=r"no checkpoint 3 .*there are the steps 1, 5, 6"):
        resolve_checkpoint(good, 3)
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        resolve_checkpoint(root.parent / "nowhere")


def test_damaged_weights_are_not_decoded_with(damaged: tuple[Path, list[dict[str, Any]]]) -> None:
    root = damaged[0]
    with pytest.raises(CheckpointError, match="SHA-256"):
        read_weights(root / "weights-bit-flip" / "step_00000003")
    assert read_weights(root / "moments-truncated" / "step_00000003")  # decoding needs the weights only


def _fail_on_one_rank(rank: int, world_size: int, root: Path) -> dict[str, Any]:
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    engine = make_engine(rank, world_size, SETUP)
    train(engine, rank, world_size, 0, 1)
    save_checkpoint(engine, root, 1, {"step": 1}, keep_last=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))  # a full disk, for this rank alone
    with pytest.raises(CheckpointError) as error:
        save_checkpoint(engine, root, 2, {"step": 2}, keep_last=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    dist.barrier()
    after_failure = sorted(path.name for path in root.iterdir())
    dist.barrier()  # the next save makes a folder
    with pytest.raises(CheckpointError) as unwritable:
        save_checkpoint(engine, root, 2, {"step": object()}, keep_last=1)
    dist.barrier()
    after_refusal = sorted(path.name for path in root.iterdir())
    dist.barrier()  # the next save makes a folder
    extra = load_checkpoint(engine, root)
    save_checkpoint(engine, root, 2, {"step": 2}, keep_last=1)
    return {
        "errors": [str(error.value), str(unwritable.value)],
        "left": [after_failure, after_refusal],
        "extra": extra,
        "again": load_checkpoint(engine, root),
    }


def test_a_rank_that_cannot_write_fails_all_ranks_and_leaves_nothing(tmp_path: Path) -> None:
    for result in run_ranks(_fail_on_one_rank, 2, tmp_path):
        assert "saving step 2" in result["errors"][0]
        assert "failed: rank 1:" in result["errors"][0]
        assert "File too large" in result["errors"][0]
        assert "rank 0: TypeError" in result["errors"][1]
        assert result["left"] == [["latest", "step_00000001"]] * 2
        assert (result["extra"], result["again"]) == ({"step": 1}, {"step": 2})


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _save_and_die(rank: int, world_size: int, root: Path, where: str) -> None:
    from smoe_ds.checkpoints.part_file import PartFile
    from smoe_ds.engine import checkpoint

    engine = make_engine(rank, world_size, SETUP)
    train(engine, rank, world_size, 0, 1)
    checkpoint.save_checkpoint(engine, root, 1, {"step": 1}, keep_last=1)
    if where == "parts" and rank == 1:
        PartFile.close = _die  # type: ignore[method-assign, assignment]
    elif where == "manifest" and rank == 0:
        checkpoint.commit_folder = _die
    elif where == "latest" and rank == 0:
        original = checkpoint.write_text_durably
        checkpoint.write_text_durably = lambda path, text: (
            _die() if path.name == "latest" else original(path, text)  # type: ignore[func-returns-value]
        )
    checkpoint.save_checkpoint(engine, root, 2, {"step": 2}, keep_last=1)


def _resume(rank: int, world_size: int, roots: dict[str, Path]) -> dict[str, Any]:
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    engine = make_engine(rank, world_size, SETUP)
    results: dict[str, Any] = {}
    for where, root in roots.items():
        extra = load_checkpoint(engine, root)
        save_checkpoint(engine, root, 3, {"step": 3}, keep_last=1)
        results[where] = (extra, sorted(path.name for path in root.iterdir()))
        dist.barrier()
    return results


def test_killed_in_the_middle_of_a_save(tmp_path: Path) -> None:
    roots = {where: tmp_path / where for where in ("parts", "manifest", "latest")}
    for where, root in roots.items():
        with pytest.raises(RankError, match="killed by signal 9"):
            run_ranks(_save_and_die, 2, root, where)
        assert where == "latest" or [path.name for path in root.glob("*.tmp-*")], "died too early or too late"
    (results, _) = run_ranks(_resume, 2, roots)
    clean = ["latest", "step_00000003"]
    assert results["parts"] == ({"step": 1}, clean)
    assert results["manifest"] == ({"step": 1}, clean)
    assert results["latest"] == ({"step": 2}, clean)  # committed by its rename; only the pointer was late
