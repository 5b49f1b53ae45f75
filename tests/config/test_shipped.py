"""Every shipped run and engine: loads, says what the paper says, survives a round trip, is accepted by DeepSpeed."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.config import RunConfig, finalize_deepspeed, load_run
from smoe_ds.config.files import read_file
from tests.helpers.environment import ROOT

CONFIGS = ROOT / "ds_configs"
RUNS = sorted(CONFIGS.glob("*.json"))
ENGINES = sorted((CONFIGS / "engine").glob("*.json"))


def test_what_is_shipped() -> None:
    assert [path.stem for path in RUNS] == ["m15", "m4", "nllb_finetune", "opus100", "quickstart", "small_cpu"]
    assert [path.stem for path in ENGINES] == [
        "cpu_fp32",
        "cpu_fp32_zero2_offload",
        "h200_bf16_zero1",
        "v100_fp16_zero1",
        "v100_fp16_zero2_offload",
    ]


def again(run: RunConfig, folder: Path) -> RunConfig:
    path = folder / "again.json"
    path.write_text(json.dumps(run.to_dict()))
    return load_run(path)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda path: path.stem)
@pytest.mark.parametrize("run_file", RUNS, ids=lambda path: path.stem)
def test_every_run_on_every_engine(run_file: Path, engine: Path, tmp_path: Path) -> None:
    run = load_run(run_file, [f"extends=engine/{engine.name}"])
    assert again(run, tmp_path) == run
    assert again(run, tmp_path).to_dict() == run.to_dict()


@pytest.mark.parametrize("engine", ENGINES, ids=lambda path: path.stem)
def test_deepspeed_accepts_what_we_hand_over(engine: Path) -> None:
    from deepspeed.runtime.config import DeepSpeedConfig

    run = load_run(CONFIGS / "m4.json", [f"extends=engine/{engine.name}"])
    read = DeepSpeedConfig(finalize_deepspeed(run, 1, "cuda"))
    assert read.zero_optimization_stage == run.zero_stage
    assert read.float16_config.enabled == (run.precision == "fp16")
    assert read.bfloat16_config.enabled == (run.precision == "bf16")
    assert read.gradient_clipping == 0.0
    assert (read.train_batch_size, read.gradient_accumulation_steps) == (32, 32)


@pytest.mark.parametrize(("below", "above"), list(itertools.permutations(ENGINES, 2)), ids=lambda path: path.stem)
def test_a_later_engine_switches_an_earlier_one_off(below: Path, above: Path) -> None:
    """An engine listed after another one decides alone, so a run that extends m4.json can change its engine."""
    layered = load_run(CONFIGS / "m4.json", [f'extends=["engine/{below.name}", "engine/{above.name}"]'])
    alone = load_run(CONFIGS / "m4.json", [f"extends=engine/{above.name}"])
    for name in ("precision", "zero_stage"):
        assert getattr(layered, name) == getattr(alone, name)
    assert layered.deepspeed["optimizer"] == alone.deepspeed["optimizer"]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda path: path.stem)
def test_every_engine_key_is_explained_in_a_comment(engine: Path) -> None:
    comments = " ".join(re.findall(r"//(.*)", engine.read_text()))
    for key in leaves(read_file(str(engine))):
        assert f"{key}:" in comments or f"{key} [" in comments, f"{engine.name}: {key} is not explained"


def leaves(tree: dict[str, Any]) -> list[str]:
    return [name for key, value in tree.items() for name in (leaves(value) if isinstance(value, dict) else [key])]


@pytest.mark.parametrize(
    ("name", "lr", "batch", "width", "strata", "temperature"),
    [
        ("m4", 8e-4, 32, (512, 2048, 8), [4, 4], 1.0),
        ("m15", 8e-4, 32, (1024, 4096, 16), [4, 12], 1.0),
        ("opus100", 5e-4, 16, (1024, 4096, 16), [4, 12], 5.0),
    ],
)
def test_recipes_are_the_papers(
    name: str, lr: float, batch: int, width: tuple[int, int, int], strata: list[int], temperature: float
) -> None:
    run = load_run(CONFIGS / f"{name}.json")
    smoe = run.smoe
    assert run.deepspeed["optimizer"]["type"] == "Adam"
    params = run.deepspeed["optimizer"]["params"]
    assert (params["lr"], params["betas"], params["eps"], params["weight_decay"]) == (lr, [0.9, 0.98], 1e-6, 0.0)
    assert run.deepspeed["gradient_clipping"] == 0.0
    assert run.train_batch_size == batch
    assert smoe.data.max_tokens == 8192
    assert (smoe.model.d_model, smoe.model.d_ffn, smoe.model.num_heads) == width
    assert (smoe.model.encoder_layers, smoe.model.decoder_layers, smoe.moe.every) == (6, 6, 2)
    assert (smoe.model.dropout, smoe.model.attention_dropout, smoe.train.label_smoothing) == (0.3, 0.1, 0.1)
    assert (smoe.moe.strata, smoe.moe.top_k) == (strata, 2)
    assert smoe.moe.load_balancing_weight == 0.01
    assert (smoe.train.warmup_steps, smoe.train.warmup_init_lr, smoe.train.max_steps) == (8000, 1e-7, 100_000)
    assert smoe.data.temperature == temperature
    assert (smoe.decode.beam_size, smoe.decode.length_penalty) == (5, 1.0)
    assert run.precision == "fp16"


def test_fine_tuning_is_nllbs_and_takes_its_sizes_from_the_model(tmp_path: Path) -> None:
    model = load_run(CONFIGS / "m15.json", ["smoe.moe.strata=[]", "smoe.model.encoder_layers=12"])
    (tmp_path / "config.json").write_text(json.dumps(model.to_dict()))
    mine = {"extends": ["config.json", str(CONFIGS / "nllb_finetune.json")], "smoe": {"data": {"path": "data/new"}}}
    (tmp_path / "run.json").write_text(json.dumps(mine))
    run = load_run(tmp_path / "run.json")
    smoe, params = run.smoe, run.deepspeed["optimizer"]["params"]
    assert (smoe.model.d_model, smoe.model.encoder_layers, smoe.moe.strata) == (1024, 12, [])
    assert (params["lr"], params["betas"], params["eps"], params["weight_decay"]) == (5e-5, [0.9, 0.98], 1e-6, 0.0)
    assert (smoe.train.warmup_steps, smoe.train.warmup_init_lr, smoe.train.max_steps) == (10, 1e-7, 50)
    assert (smoe.model.dropout, smoe.model.attention_dropout, smoe.train.label_smoothing) == (0.1, 0.1, 0.1)
    assert run.train_batch_size * smoe.data.max_tokens == 2 * 64 * 250
    assert (run.deepspeed["gradient_clipping"], smoe.data.temperature, run.precision) == (0.0, 1.0, "fp16")
    assert (smoe.data.path, smoe.train.init_from) == ("data/new", "runs/nllb")


def test_quickstart_runs_on_two_cpu_ranks() -> None:
    run = load_run(CONFIGS / "quickstart.json")
    assert run.precision == "fp32"
    config = finalize_deepspeed(run, 2, "cpu")
    assert config["gradient_accumulation_steps"] * 2 == run.train_batch_size
    assert config["optimizer"]["params"]["torch_adam"] is True


CHOICES: dict[str, list[Any]] = {
    "train_batch_size": [1, 7, 32],
    "gradient_clipping": [0, 0.0],
    "optimizer.type": ["Adam", "AdamW"],
    "optimizer.params.lr": [1, 1e-3, 3.3e-4],
    "optimizer.params.weight_decay": [0, 0.01],
    "optimizer.params.torch_adam": [True, False],
    "zero_optimization.reduce_bucket_size": [5e7, 123],
    "zero_optimization.overlap_comm": [True, False],
    "steps_per_print": [10, None],
    "fp16.initial_scale_power": [12],
    "wall_clock_breakdown": [True],
    "csv_monitor": [{"enabled": True, "output_path": "csv"}],
    "smoe.model.dropout": [0, 0.1],
    "smoe.moe.strata": [[], [8], [2, 2, 2, 2], [3, 2]],
    "smoe.moe.top_k": [1, 2],
    "smoe.moe.capacity_factor": [None, 1, 1.25],
    "smoe.data.directions": [None, ["eng-nso"]],
    "smoe.data.path": ["données/ü", "12", "true"],
    "smoe.train.max_minutes": [None, 3, 0.5],
    "smoe.train.warmup_init_lr": [0, 1e-7],
}


@pytest.mark.parametrize("seed", range(40))
def test_dumping_and_reloading_gives_the_same(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    keys = draw.sample(sorted(CHOICES), k=draw.randint(1, len(CHOICES)))
    engine = draw.choice(ENGINES)
    overrides = [f"{key}={json.dumps(draw.choice(CHOICES[key]))}" for key in keys]
    run = load_run(draw.choice(RUNS), [f"extends=engine/{engine.name}", "smoe.moe.ep_size=1", *overrides])
    reloaded = again(run, tmp_path)
    assert reloaded == run
    assert json.dumps(reloaded.to_dict()) == json.dumps(run.to_dict())
    assert reloaded.to_dict() == json.loads(json.dumps(run.to_dict()))
