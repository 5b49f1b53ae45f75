"""Stopped at step k and resumed equals uninterrupted, bit for bit: losses, fp32 weights, moments, counters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smoe_ds.errors import CheckpointError
from tests.helpers.engines import Setup, digest, full_state, make_engine, micro_batch, train
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank

SETUPS = [
    Setup(0),
    Setup(1),
    Setup(2, ep_size=2),
    Setup(0, "bf16", ep_size=2),
    Setup(1, "bf16", clip=0.5),
    Setup(1, "bf16", ep_size=2, gradient_dtype="fp32"),
    Setup(2, "bf16", ep_size=2, clip=0.5),
    Setup(1, "fp16", ep_size=2, initial_scale_power=18),  # overflows at first: skipped steps, a moving scale
    Setup(2, "fp16", initial_scale_power=18),
    Setup(2, "fp16", ep_size=2, offload=True),
    Setup(2, "fp16", offload=True, clip=0.5, initial_scale_power=18),
    Setup(1, ep_size=2, offload=True, clip=0.5),
    Setup(1, ep_size=2, zero=(("round_robin_gradients", True),)),
]
STOP, END = 3, 5  # with fp16: after two overflows, before the hysteresis is refilled


def _counters(engine: Any) -> tuple[Any, ...]:
    from smoe_ds.engine.build import gradient_norm, loss_scale

    scaler = getattr(engine.optimizer, "loss_scaler", None)
    return (
        engine.global_steps,
        engine.global_samples,
        engine.micro_steps,
        engine.skipped_steps,
        loss_scale(engine),
        gradient_norm(engine),
        getattr(scaler, "cur_iter", None),
        getattr(scaler, "last_overflow_iter", None),
        getattr(scaler, "cur_hysteresis", None),
    )


def _stop_and_go(rank: int, world_size: int, root: Path, setups: list[Setup]) -> list[dict[str, Any]]:
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    reports = []
    for number, setup in enumerate(setups):
        folder = root / str(number)
        engine = make_engine(rank, world_size, setup)
        train(engine, rank, world_size, 0, STOP)
        saved = digest(full_state(engine))
        save_checkpoint(engine, folder, STOP, {"position": [STOP, 0.1]}, keep_last=1)
        after_save = digest(full_state(engine))
        straight = (train(engine, rank, world_size, STOP, END), digest(full_state(engine)), _counters(engine))
        engine.destroy()

        engine = make_engine(rank, world_size, setup)
        extra = load_checkpoint(engine, folder)
        loaded = digest(full_state(engine))
        resumed = (train(engine, rank, world_size, STOP, END), digest(full_state(engine)), _counters(engine))
        late = load_checkpoint(engine, folder)  # also into an engine that has taken steps
        late_digest = digest(full_state(engine))
        engine.destroy()
        reports.append(
            {
                "extra": [extra, late],
                "states": [saved, after_save, loaded, late_digest],
                "straight": straight,
                "resumed": resumed,
            }
        )
    return reports


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    return run_ranks(_stop_and_go, 2, tmp_path_factory.mktemp("resume"), SETUPS, timeout=240)


@pytest.mark.parametrize("number", range(len(SETUPS)), ids=[str(setup) for setup in SETUPS])
def test_resumed_equals_uninterrupted_bit_for_bit(reports: list[list[dict[str, Any]]], number: int) -> None:
    for rank, rank_reports in enumerate(reports):
        report = rank_reports[number]
        assert report["extra"] == [{"position": [STOP, 0.1]}] * 2
        assert len(set(report["states"])) == 1, f"rank {rank}: {report['states']}"
        assert report["straight"] == report["resumed"], f"rank {rank}"


def test_training_moves_and_fp16_skips(reports: list[list[dict[str, Any]]]) -> None:
    """The comparison above would also hold for an engine that does nothing."""
    for setup, report in zip(SETUPS, reports[0], strict=True):
        losses, after, counters = report["straight"]
        assert after != report["states"][0]
        assert len(set(losses)) > 1
        skipped, scale = counters[3], counters[4]
        assert (skipped > 0) == (setup.initial_scale_power == 18)
        assert scale > 1 if setup.precision == "fp16" else scale == 1


def _save_within_a_step(rank: int, world_size: int, root: Path) -> tuple[str, bool]:
    from smoe_ds.engine.checkpoint import save_checkpoint

    engine = make_engine(rank, world_size, Setup(1))
    train(engine, rank, world_size, 0, 1)
    src, tgt_in, _ = micro_batch(0)
    logits, *_ = engine(src, tgt_in)
    engine.backward(logits.float().square().mean())
    engine.step()
    with pytest.raises(CheckpointError) as error:
        save_checkpoint(engine, root, 1, {}, keep_last=1)
    return str(error.value), root.exists()


def test_a_save_within_a_step_is_refused(tmp_path: Path) -> None:
    for message, exists in run_ranks(_save_within_a_step, 2, tmp_path / "checkpoints"):
        assert "1 micro-batches of the next step are already accumulated" in message
        assert not exists
