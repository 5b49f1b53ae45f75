"""``smoe.train.deterministic``: what it switches, and that a run trains with it."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import scalars, small_run, train_here, write_run


def switched(rank: int, world_size: int) -> tuple[bool, bool, bool, str | None]:
    import os

    from smoe_ds.train.repeatable import make_deterministic

    make_deterministic()
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


def test_kernels_without_a_repeatable_form_are_refused() -> None:
    assert run_ranks(switched, 1, init=False) == [(True, False, False, ":4096:8")]


def test_a_run_trains_as_without(tmp_path: Path, corpus_folder: Path) -> None:
    losses = []
    for name, deterministic in (("with", True), ("without", False)):
        file = write_run(
            tmp_path / f"{name}.json", small_run(tmp_path / name, corpus_folder, deterministic=deterministic)
        )
        code, said = train_here(file)
        assert code == 0, said
        losses.append(scalars(tmp_path / name)["train/nll"])
    assert len(losses[0]) == 6 and losses[0] == losses[1]
