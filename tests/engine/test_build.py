"""The engine trains as plain torch does: gradient norm, clipping and updates at every stage; nothing is compiled."""

from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from smoe_ds.engine.ownership import assign_owners
from smoe_ds.errors import ConfigError
from tests.helpers.engines import (
    MICRO_BATCHES,
    Setup,
    ds_config,
    full_state,
    make_engine,
    micro_batch,
    moe_config,
    train,
)
from tests.helpers.environment import ROOT
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank

CLIP = 0.3  # below every gradient norm of these steps
STEPS = 3
SETUPS = [
    Setup(stage, precision, ep_size=ep_size, clip=CLIP)
    for stage, precision in [(0, "fp32"), (1, "fp32"), (2, "fp32"), (0, "bf16"), (1, "bf16"), (1, "fp16"), (2, "fp16")]
    for ep_size in (1, 2)
] + [
    Setup(stage, precision, ep_size=ep_size, clip=CLIP, offload=True)
    for stage, precision in [(1, "fp32"), (2, "fp32"), (2, "bf16"), (2, "fp16")]
    for ep_size in (1, 2)
]


def _train(rank: int, world_size: int, setups: list[Setup]) -> list[dict[str, Any]]:
    from smoe_ds.engine.build import gradient_norm, loss_scale, step_was_skipped
    from smoe_ds.engine.state import owned_parameters

    results = []
    for setup in setups:
        engine = make_engine(rank, world_size, setup)
        norms, scales, skipped = [], [], []
        for step in range(STEPS):
            train(engine, rank, world_size, step, step + 1)
            norms.append(gradient_norm(engine))
            scales.append(loss_scale(engine))
            skipped.append(step_was_skipped(engine))
        state = full_state(engine)
        results.append(
            {
                "weights": {n.removeprefix("master/"): t for n, t in state.items() if n.startswith("master/")},
                "norms": norms,
                "steps": [owned.step for owned in owned_parameters(engine)],
                "scales": scales,
                "skipped": skipped,
                "groups": [(group["name"], len(group["params"])) for group in engine.optimizer.param_groups],
                "nan": _poisoned(engine, rank, world_size),
            }
        )
        engine.destroy()
    return results


def _poisoned(engine: Any, rank: int, world_size: int) -> tuple[bool, float, bool]:
    """A gradient that is not a number on one rank: was the step skipped, its norm, did any weight change."""
    from smoe_ds.engine.build import gradient_norm, step_was_skipped

    before = full_state(engine)
    for micro_step in range(MICRO_BATCHES // world_size):
        src, tgt_in, tgt_out = micro_batch(micro_step)
        logits, *_ = engine(src, tgt_in)
        loss = F.cross_entropy(logits.float().flatten(0, 1), tgt_out.flatten())
        engine.backward(loss * math.nan if rank == 1 else loss)
        engine.step()
    after = full_state(engine)
    changed = any(not torch.equal(before[name], after[name]) for name in before)
    return step_was_skipped(engine), gradient_norm(engine), changed


def _reference() -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same steps in plain torch, one process."""
    from smoe_ds.config.model import ModelConfig
    from smoe_ds.model.transformer import Transformer

    sizes = ModelConfig(
        d_model=10, d_ffn=7, num_heads=2, encoder_layers=2, decoder_layers=2, dropout=0.0, attention_dropout=0.0
    )
    model = Transformer(sizes, moe_config(), 23, seed=5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01)
    norms = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 1e-2 / (step + 1)
        for index in range(step * MICRO_BATCHES, (step + 1) * MICRO_BATCHES):
            src, tgt_in, tgt_out = micro_batch(index)
            loss = F.cross_entropy(model(src, tgt_in)[0].flatten(0, 1), tgt_out.flatten())
            (loss / MICRO_BATCHES).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
        optimizer.step()
        optimizer.zero_grad()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}, norms


@pytest.fixture(scope="module")
def trained() -> list[list[dict[str, Any]]]:
    return run_ranks(_train, 2, SETUPS, timeout=240)


@pytest.fixture(scope="module")
def reference() -> tuple[dict[str, torch.Tensor], list[float]]:
    return _reference()


@pytest.mark.parametrize("number", range(len(SETUPS)), ids=[str(setup) for setup in SETUPS])
def test_norm_clipping_and_update_equal_plain_torch(
    trained: list[list[dict[str, Any]]], reference: tuple[dict[str, torch.Tensor], list[float]], number: int
) -> None:
    weights, norms = reference
    setup, results = SETUPS[number], [rank_results[number] for rank_results in trained]
    exact = setup.precision == "fp32"
    assert min(norms) > CLIP
    assert results[0]["norms"] == results[1]["norms"]
    assert results[0]["norms"] == pytest.approx(norms, rel=1e-5 if exact else 4e-2)
    assert results[0]["skipped"] == [False] * STEPS
    assert results[0]["scales"] == ([2.0**8] * STEPS if setup.precision == "fp16" else [1.0] * STEPS)
    assert {step for result in results for step in result["steps"]} == {STEPS}
    # 16 bits lose the sign of small gradients, and Adam's first updates are about lr in size whatever the gradient
    assert _distance(results[0]["weights"] | results[1]["weights"], weights) < (1e-6 if exact else 2e-3)


def test_bf16_without_zero_equals_zero_1(trained: list[list[dict[str, Any]]]) -> None:
    """DeepSpeed's wrapper for bf16 without ZeRO takes a step at construction, which is undone."""
    for ep_size in (1, 2):
        numbers = [SETUPS.index(Setup(stage, "bf16", ep_size=ep_size, clip=CLIP)) for stage in (0, 1)]
        plain, zero = (trained[0][number]["weights"] | trained[1][number]["weights"] for number in numbers)
        assert _distance(plain, zero) < 1e-5


def _distance(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Mean absolute difference, but for the keys' biases: their gradient is zero but for rounding."""
    assert set(found) == set(expected)
    names = [name for name in expected if not name.endswith("key_value.bias")]
    return float(torch.cat([(found[name] - expected[name]).abs().flatten() for name in names]).mean())


@pytest.mark.parametrize("number", range(len(SETUPS)), ids=[str(setup) for setup in SETUPS])
def test_a_gradient_that_is_not_a_number_skips_the_step_on_all_ranks(
    trained: list[list[dict[str, Any]]], number: int
) -> None:
    for rank_results in trained:
        assert rank_results[number]["nan"] == (True, math.inf, False)


def test_parameter_groups_have_names_and_an_order(trained: list[list[dict[str, Any]]]) -> None:
    for rank_results in trained:
        for setup, result in zip(SETUPS, rank_results, strict=True):
            names = [name for name, _ in result["groups"]]
            assert names == (["dense"] if setup.ep_size == 1 else ["dense", "ep_size_2"])


def test_expert_groups_are_sorted_by_number() -> None:
    from smoe_ds.engine.build import parameter_groups

    model = torch.nn.ModuleDict({name: torch.nn.Linear(2, 2) for name in "abcd"})
    for name, group in (("a", "ep_size_16"), ("c", "ep_size_2"), ("d", "ep_size_16")):
        for parameter in model[name].parameters():
            parameter.allreduce, parameter.group_name = False, group  # type: ignore[attr-defined]
    groups = parameter_groups(model)
    assert [group["name"] for group in groups] == ["dense", "ep_size_2", "ep_size_16"]
    assert [[id(p) for p in group["params"]] for group in groups] == [
        [id(p) for p in model["b"].parameters()],
        [id(p) for p in model["c"].parameters()],
        [id(p) for key in "ad" for p in model[key].parameters()],
    ]
    assert [group.get("moe", False) for group in groups] == [False, True, True]


def _refused(rank: int, world_size: int, changes: list[dict[str, Any]]) -> list[str]:
    import deepspeed

    from smoe_ds.engine.build import build_engine

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)
    told = []
    for change in changes:
        with pytest.raises(ConfigError) as error:
            build_engine(torch.nn.Linear(2, 2), ds_config(Setup(), 1) | change)
        told.append(str(error.value))
    return told


def test_places_that_cannot_be_written_are_named_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = str(tmp_path / "file/below")
    csv = {"csv_monitor": {"enabled": True, "output_path": place, "job_name": "job"}}
    profile = {"flops_profiler": {"enabled": True, "output_file": f"{place}/profile.txt"}}
    for told in run_ranks(_refused, 1, [csv, profile], init=False)[0]:
        assert told.startswith(f"building the engine: {place}") and "csv_monitor.output_path or flops_profiler" in told


def test_a_monitor_whose_package_is_missing_is_named() -> None:
    from smoe_ds.engine.build import _errors_of_a_user

    with pytest.raises(ConfigError, match="the package no_such_monitor is missing"), _errors_of_a_user():
        importlib.import_module("no_such_monitor")


def test_what_cannot_be_trained_or_kept_is_refused() -> None:
    from smoe_ds.engine.build import build_engine

    with pytest.raises(ConfigError, match="all parameters are frozen, so there is nothing to train"):
        build_engine(torch.nn.Linear(2, 2).requires_grad_(False), ds_config(Setup(), 1))
    with pytest.raises(ConfigError, match="running_mean"):
        build_engine(torch.nn.BatchNorm1d(2), ds_config(Setup(), 1))
    with pytest.raises(ConfigError, match=r"optimizer.type: expected Adam or AdamW, found 'Lamb'"):
        build_engine(torch.nn.Linear(2, 2), ds_config(Setup(), 1) | {"optimizer": {"type": "Lamb"}})


_WITHOUT_COMPILER = """
import shutil, sys, torch
assert shutil.which("g++") is None and shutil.which("c++") is None and shutil.which("ninja") is None
from smoe_ds.parallel.launchers import discover
from smoe_ds.parallel.process_group import init_distributed, shutdown
init_distributed(discover(), torch.device("cpu"))
from tests.helpers.engines import Setup, make_engine, train
engine = make_engine(0, 1, Setup(1, offload=True))
print("losses", train(engine, 0, 1, 0, 1))
assert "torch._inductor.compile_fx" not in sys.modules, "PyTorch's compiler takes seconds to import"
shutdown()
"""


def test_starts_without_a_compiler_and_in_spite_of_a_stale_lock(tmp_path: Path) -> None:
    for op in ("deepspeed_shm_comm", "fused_adam", "cpu_adam"):
        (tmp_path / op).mkdir()
        (tmp_path / op / "lock").touch()
    environ = {n: v for n, v in os.environ.items() if not n.startswith(("SLURM_", "OMPI_", "PMI_", "DS_"))}
    environ |= {
        "PATH": str(tmp_path),
        "TORCH_EXTENSIONS_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    run = subprocess.run(
        [sys.executable, "-c", _WITHOUT_COMPILER], env=environ, capture_output=True, text=True, timeout=100
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("losses [3.4")
    assert run.stderr == "", "noise at start-up"


def test_owners_are_a_pure_function_and_balanced() -> None:
    sizes = {f"p{i}": size for i, size in enumerate([50, 30, 20, 20, 10, 10, 10])}
    owners = assign_owners(sizes, dict.fromkeys(sizes, (4, 2, 7)))
    assert owners == assign_owners(dict(reversed(list(sizes.items()))), dict.fromkeys(sizes, (7, 4, 2)))
    assert set(owners) == set(sizes)
    load = {rank: sum(sizes[name] for name in sizes if owners[name] == rank) for rank in (2, 4, 7)}
    assert load == {2: 50, 4: 50, 7: 50}


def test_owners_hold_what_they_write() -> None:
    sizes = {"a": 40, "b": 5, "c": 30, "across": 60}
    holders = {"a": [0], "b": [1], "c": [1], "across": [0, 1]}
    assert assign_owners(sizes, holders) == {"a": 0, "b": 1, "c": 1, "across": 1}
