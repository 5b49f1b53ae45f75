"""Combinations that cannot work, or that DeepSpeed silently gets wrong: each is refused, with reason and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smoe_ds.config import RunConfig, check_device, check_world, finalize_deepspeed, load_run
from smoe_ds.config.deepspeed_keys import REFUSED
from smoe_ds.errors import ConfigError

BASE = {
    "train_batch_size": 12,
    "optimizer": {"type": "Adam", "params": {"lr": 1e-3}},
    "smoe": {"data": {"path": "d"}, "train": {"output_dir": "o"}, "moe": {"strata": [4, 4]}},
}


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(BASE))
    return path


def refusal(run_file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_run(run_file, overrides)
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


EXPERTS_OFF = "smoe.moe.strata=[]"


@pytest.mark.parametrize(
    ("overrides", "key", "reason"),
    [
        (["fp16.enabled=true"], "zero_optimization.stage", "set stage to 1 or 2"),
        (["fp16.enabled=true", EXPERTS_OFF], "zero_optimization.stage", "set stage to 1 or 2"),
        (["fp16.enabled=true", "bf16.enabled=true", "zero_optimization.stage=1"], "bf16.enabled", "switch one off"),
        (["zero_optimization.stage=3"], "zero_optimization.stage", "set 1 or 2"),
        (["zero_optimization.allgather_bucket_size=4097"], "zero_optimization.allgather_bucket_size", "even sizes"),
        (["fp16.initial_scale_power=63"], "fp16.initial_scale_power", "62"),
        (
            ["zero_optimization.stage=2", "smoe.moe.stacked=true", "smoe.moe.strata=[2,2]", "smoe.moe.ep_size=4"],
            "smoe.moe.ep_size",
            "choose one that divides every stratum",
        ),
        (
            [
                "zero_optimization.stage=1",
                "zero_optimization.overlap_comm=true",
                "smoe.moe.stacked=true",
                "smoe.moe.strata=[2,2]",
                "smoe.moe.ep_size=4",
            ],
            "smoe.moe.ep_size",
            "ZeRO stage 1 with overlap_comm false",
        ),
        (
            ["smoe.moe.router.kind=base", "smoe.moe.router_z_weight=0.001"],
            "smoe.moe.router_z_weight",
            "the router base has no softmax gate to take it of; set it to 0",
        ),
        (["smoe.moe.ep_size=2", "smoe.moe.expert_backend=lean"], "smoe.moe.expert_backend", "set it to auto"),
        (["zero_optimization.stage=3", EXPERTS_OFF], "zero_optimization.stage", "set 1 or 2"),
        (
            ["zero_optimization.stage=1", "zero_optimization.contiguous_gradients=false"],
            "zero_optimization.contiguous_gradients",
            "would average the gradients of different experts",
        ),
        (
            ["zero_optimization.stage=2", "zero_optimization.contiguous_gradients=false"],
            "zero_optimization.contiguous_gradients",
            "set it to true",
        ),
        (
            ["zero_optimization.stage=1", "zero_optimization.reduce_scatter=false"],
            "zero_optimization.reduce_scatter",
            "set it to true",
        ),
        (
            ["zero_optimization.offload_optimizer.device=cpu"],
            "zero_optimization.offload_optimizer",
            "ignored in stage 0",
        ),
        (
            ["zero_optimization.stage=2", "zero_optimization.offload_optimizer.device=nvme"],
            "zero_optimization.offload_optimizer.device",
            "expected 'none' or 'cpu'",
        ),
        (
            ["zero_optimization.stage=2", "zero_optimization.offload_param.device=cpu"],
            "zero_optimization.offload_param",
            "works only in ZeRO stage 3",
        ),
        (["optimizer.type=SGD"], "optimizer.type", "expected 'Adam' or 'AdamW'"),
        (
            ["optimizer.type=AdamW", "optimizer.params.adam_w_mode=false"],
            "optimizer.params.adam_w_mode",
            "ignores false",
        ),
        (["smoe.train.max_steps=5", "smoe.train.cooldown_steps=6"], "smoe.train.cooldown_steps", "above max_steps, 5"),
        *(
            ([f"smoe.train.{key}={value}"], f"smoe.train.{key}", found)
            for key in ("expert_lr_factor", "gate_lr_factor")
            for value, found in (
                ("0", "expected a value > 0"),
                ("-1", "expected a value > 0"),
                ("NaN", "finite"),
                ("1e999", "finite"),
            )
        ),
        (
            ["smoe.train.expert_lr_factor=0.5", EXPERTS_OFF],
            "smoe.train.expert_lr_factor",
            "is 0.5, but this model has no routed experts; leave it out",
        ),
        (
            ["smoe.train.gate_lr_factor=2", 'smoe.moe.router={"kind": "hash"}'],
            "smoe.train.gate_lr_factor",
            "is 2, but this model has no gates, and its routers learn nothing; leave it out",
        ),
        (["smoe.train.warmup_init_lr=0.1"], "smoe.train.warmup_init_lr", "above the peak"),
        (["smoe.moe.every=7"], "smoe.moe.every", "choose 6 or less"),
        (["smoe.moe.num_experts=16"], "smoe.moe.strata", "sums to 8 experts, but num_experts is 16"),
        (["smoe.moe.strata=[4,0]"], "smoe.moe.strata", "without experts"),
        (["smoe.moe.ep_size=3"], "smoe.moe.ep_size", "choose one of [1, 2, 4, 8]"),
        (["smoe.model.d_model=15", "smoe.model.num_heads=3"], "smoe.model.d_model", "is odd"),
    ],
)
def test_refused_combination(run_file: Path, overrides: list[str], key: str, reason: str) -> None:
    problem = refusal(run_file, *overrides)
    assert f": {key}: " in problem
    assert reason in problem


@pytest.mark.parametrize(
    "overrides",
    [
        ["fp16.enabled=true", "zero_optimization.stage=1"],
        ["bf16.enabled=true"],
        ["zero_optimization.stage=1", "zero_optimization.contiguous_gradients=false", EXPERTS_OFF],
        ["zero_optimization.stage=2", "zero_optimization.reduce_scatter=false", EXPERTS_OFF],
        ["gradient_clipping=1.0", "smoe.moe.ep_size=2", "zero_optimization.stage=1"],
        ["gradient_clipping=1.0", "smoe.moe.ep_size=1"],
        ["zero_optimization.stage=2", "zero_optimization.offload_optimizer.device=cpu", "fp16.enabled=true"],
        ["zero_optimization.offload_optimizer.device=none"],
        ["optimizer.params.adam_w_mode=true", "optimizer.params.weight_decay=0.1"],
        ["smoe.moe.num_experts=8", "smoe.moe.ep_size=8"],
        ["smoe.train.expert_lr_factor=1", "smoe.train.gate_lr_factor=1", EXPERTS_OFF],
        ["smoe.train.gate_lr_factor=0.5", EXPERTS_OFF, "smoe.model.language_capacity.languages=3"],
        ["smoe.train.gate_lr_factor=0.5", "smoe.moe.shared_expert=cmr", 'smoe.moe.router={"kind": "hash"}'],
    ],
)
def test_neighbours_of_refused_combinations_are_accepted(run_file: Path, overrides: list[str]) -> None:
    load_run(run_file, overrides)


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_refused_key_says_why(run_file: Path, key: str) -> None:
    problem = refusal(run_file, f"{key}=1")
    assert problem == f"--set: {key}: {REFUSED[key]}"
    assert any(word in problem for word in ("remove it", "write", "use", "set", "supported")), "no remedy"


def test_finalize_does_the_batch_arithmetic(run_file: Path) -> None:
    run = load_run(run_file)
    config = finalize_deepspeed(run, 4, "cpu")
    assert config["train_batch_size"] == 12
    assert config["train_micro_batch_size_per_gpu"] == 1
    assert config["gradient_accumulation_steps"] == 3
    assert config["gradient_clipping"] == 0.0
    assert config["steps_per_print"] is None
    assert config["zero_optimization"]["stage"] == 0
    assert config["optimizer"]["params"]["weight_decay"] == 0.0
    assert "smoe" not in config
    assert "gradient_accumulation_steps" not in run.deepspeed, "the run itself is left alone"


@pytest.mark.parametrize(
    ("overrides", "device", "expected"),
    [
        ([], "cpu", True),
        ([], "cuda", False),
        (["optimizer.params.torch_adam=false"], "cpu", False),
        (["optimizer.params.torch_adam=true"], "cuda", True),
    ],
)
def test_torch_adam_follows_the_device_unless_set(
    run_file: Path, overrides: list[str], device: str, expected: bool
) -> None:
    config = finalize_deepspeed(load_run(run_file, overrides), 1, device)
    assert config["optimizer"]["params"]["torch_adam"] is expected


def test_finalize_asks_the_environment_for_the_device(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cuda")
    assert finalize_deepspeed(load_run(run_file), 1)["optimizer"]["params"]["torch_adam"] is False
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert finalize_deepspeed(load_run(run_file), 1)["optimizer"]["params"]["torch_adam"] is True


@pytest.mark.parametrize(
    ("world_size", "remedy"),
    [(5, "set it to 10 or 15, or start 4 or 6 ranks"), (24, "set it to 24, or start 6 or 12 ranks")],
)
def test_world_that_cannot_share_the_batch(run_file: Path, world_size: int, remedy: str) -> None:
    run = load_run(run_file)
    with pytest.raises(ConfigError) as caught:
        finalize_deepspeed(run, world_size, "cpu")
    (problem,) = caught.value.problems
    assert problem.startswith(f"{run_file}: train_batch_size: 12")
    assert remedy in problem


def test_world_problems_come_together(run_file: Path) -> None:
    run = load_run(run_file, ["smoe.moe.ep_size=4"])
    with pytest.raises(ConfigError) as caught:
        check_world(run, 10)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == ["train_batch_size", "smoe.moe.ep_size"]
    assert "set it to 1 or 2, or start a multiple of 4 ranks" in caught.value.problems[1]
    check_world(run, 4)
    check_world(run, 12)


def test_ep_size_of_a_dense_model_binds_no_ranks(run_file: Path) -> None:
    check_world(load_run(run_file, [EXPERTS_OFF, "smoe.moe.ep_size=4"]), 3)


def bf16_run(run_file: Path) -> RunConfig:
    return load_run(run_file, ["bf16.enabled=true"])


def test_bf16_needs_ampere(run_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"7\.0.*v100_fp16_zero1"):
        check_device(bf16_run(run_file), "cuda", (7, 0))


@pytest.mark.parametrize(("device", "capability"), [("cuda", (8, 0)), ("cuda", (9, 0)), ("cpu", None)])
def test_bf16_elsewhere(run_file: Path, device: str, capability: tuple[int, int] | None) -> None:
    check_device(bf16_run(run_file), device, capability)
