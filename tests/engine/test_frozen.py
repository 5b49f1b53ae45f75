"""Frozen parameters stay as they are, the others train as in plain torch; on any number of ranks, resumed or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.engines import MICRO_BATCHES, Setup, digest, full_state, make_engine, micro_batch, moe_config, train
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CLIP = 0.1  # below every gradient norm of these steps
STEPS, STOP = 3, 2
PATTERNS = {
    "embedding and encoder": ("embedding", "encoder.*"),
    "attention and first matrices": ("*attention*", "*.experts.*.w1"),
    "all but experts": ("embedding", "*norm*", "*attention*", "*.gates.*", "*.layers.0.ffn"),
    "all experts": ("*.experts",),
    "some experts": ("*.experts.[01]", "*.experts.3.b2"),
}
ENGINES = [
    {"stage": 0},
    {"stage": 1, "ep_size": 2},
    {"stage": 2, "precision": "bf16", "ep_size": 2},
    {"stage": 0, "precision": "bf16"},
    {"stage": 1, "precision": "fp16"},
    {"stage": 2, "offload": True},
    {"stage": 1, "precision": "bf16", "gradient_dtype": "fp32"},
]
SETUPS = [
    *(Setup(clip=CLIP, freeze=PATTERNS["embedding and encoder"], **engine) for engine in ENGINES),
    Setup(1, ep_size=2, clip=CLIP, freeze=PATTERNS["attention and first matrices"]),
    Setup(2, ep_size=2, clip=CLIP, freeze=PATTERNS["all but experts"]),
    Setup(0, ep_size=2, clip=CLIP, freeze=PATTERNS["all experts"]),
    Setup(1, clip=CLIP, freeze=PATTERNS["all experts"]),
    Setup(2, clip=CLIP, freeze=PATTERNS["some experts"]),
]


def _label(setup: Setup) -> str:
    kind = next(name for name, patterns in PATTERNS.items() if patterns == setup.freeze)
    return f"{kind}, ZeRO {setup.stage}, {setup.precision}, ep {setup.ep_size}{', offload' * setup.offload}"


def _train(rank: int, world_size: int, root: Path) -> list[dict[str, Any]]:
    from smoe_ds.engine.build import gradient_norm
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    results = []
    for number, setup in enumerate(SETUPS):
        if setup.ep_size > world_size:
            results.append({})
            continue
        engine = make_engine(rank, world_size, setup)
        frozen = {name for name, p in engine.module.named_parameters() if not p.requires_grad}
        before, norms = full_state(engine), []
        for step in range(STEPS):
            train(engine, rank, world_size, step, step + 1)
            norms.append(gradient_norm(engine))
            if step + 1 == STOP:
                folder = root / f"{world_size}-{number}"
                save_checkpoint(engine, folder, STOP, {}, keep_last=1)
        state = full_state(engine)
        gradients = [name for name, p in engine.module.named_parameters() if name in frozen and p.grad is not None]
        optimized = {id(p) for group in engine.basic_optimizer.param_groups for p in group["params"]}
        engine.destroy()

        engine = make_engine(rank, world_size, setup)
        load_checkpoint(engine, folder)
        train(engine, rank, world_size, STOP, STEPS)
        resumed = digest(full_state(engine))
        engine.destroy()
        results.append(
            {
                "frozen": frozen,
                "gradients": gradients,
                "optimized": len(optimized),
                "before": before,
                "state": state,
                "norms": norms,
                "resumed": resumed == digest(state),
            }
        )
    return results


def _reference(freeze: tuple[str, ...]) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same steps in plain torch, one process."""
    from smoe_ds.config.model import ModelConfig
    from smoe_ds.model.freezing import frozen_names
    from smoe_ds.model.transformer import Transformer

    sizes = ModelConfig(
        d_model=10, d_ffn=7, num_heads=2, encoder_layers=2, decoder_layers=2, dropout=0.0, attention_dropout=0.0
    )
    model = Transformer(sizes, moe_config(), 23, seed=5)
    named = dict(model.named_parameters())
    frozen = frozen_names(named, freeze)
    trained = [parameter for name, parameter in named.items() if name not in frozen]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01)
    norms = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 1e-2 / (step + 1)
        for index in range(step * MICRO_BATCHES, (step + 1) * MICRO_BATCHES):
            src, tgt_in, tgt_out = micro_batch(index)
            loss = F.cross_entropy(model(src, tgt_in)[0].flatten(0, 1), tgt_out.flatten())
            (loss / MICRO_BATCHES).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, CLIP)))
        optimizer.step()
        model.zero_grad()
    return {name: parameter.detach() for name, parameter in named.items()}, norms


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frozen")


@pytest.fixture(scope="module")
def reports(root: Path) -> dict[int, list[list[dict[str, Any]]]]:
    return {world_size: run_ranks(_train, world_size, root, timeout=300) for world_size in (1, 2)}


@pytest.fixture(scope="module")
def references() -> dict[tuple[str, ...], tuple[dict[str, torch.Tensor], list[float]]]:
    return {freeze: _reference(freeze) for freeze in PATTERNS.values()}


def _cases() -> list[Any]:
    return [
        pytest.param(world_size, number, id=f"{world_size} ranks, {_label(setup)}")
        for world_size in (1, 2)
        for number, setup in enumerate(SETUPS)
        if setup.ep_size <= world_size
    ]


@pytest.mark.parametrize(("world_size", "number"), _cases())
def test_frozen_parameters_stay_and_the_others_train_as_in_plain_torch(
    reports: dict[int, list[list[dict[str, Any]]]],
    references: dict[tuple[str, ...], tuple[dict[str, torch.Tensor], list[float]]],
    world_size: int,
    number: int,
) -> None:
    setup, found = SETUPS[number], [of_rank[number] for of_rank in reports[world_size]]
    weights, norms = references[setup.freeze]
    exact = setup.precision == "fp32"
    state = {name: value for report in found for name, value in report["state"].items()}
    before = {name: value for report in found for name, value in report["before"].items()}
    frozen = set().union(*(report["frozen"] for report in found))
    assert frozen and all(report["gradients"] == [] for report in found)
    assert min(norms) > CLIP
    assert found[0]["norms"] == pytest.approx(norms, rel=1e-5 if exact else 4e-2)
    distances = []
    for name, expected in weights.items():
        if name in frozen:
            assert not any(f"{moment}/{name}" in state for moment in ("exp_avg", "exp_avg_sq"))
            assert torch.equal(state[f"master/{name}"], before[f"master/{name}"]), name
            assert torch.equal(state[f"model/{name}"], before[f"master/{name}"].to(DTYPES[setup.precision]).float()), (
                name
            )
            assert torch.equal(state[f"master/{name}"], expected), f"{name}: rounded in a checkpoint"
        else:
            assert f"exp_avg/{name}" in state
            if not name.endswith("key_value.bias"):  # its gradient is zero but for rounding
                distances.append((state[f"master/{name}"] - expected).abs().flatten())
    assert torch.cat(distances).mean() < (1e-6 if exact else 2e-3)
    assert any(not torch.equal(state[name], before[name]) for name in state if name.startswith("master/"))


@pytest.mark.parametrize(("world_size", "number"), _cases())
def test_resumed_equals_uninterrupted_bit_for_bit(
    reports: dict[int, list[list[dict[str, Any]]]], world_size: int, number: int
) -> None:
    assert all(of_rank[number]["resumed"] for of_rank in reports[world_size])


def _load_others(rank: int, world_size: int, root: Path) -> list[Any]:
    from smoe_ds.engine.checkpoint import load_checkpoint
    from smoe_ds.errors import CheckpointError

    told: list[Any] = []
    same = PATTERNS["embedding and encoder"]
    for freeze in (same, (*same, "*norm*"), ("decoder",), ()):
        setup = Setup(2, ep_size=2, freeze=freeze)
        engine = make_engine(rank, world_size, setup)
        try:
            load_checkpoint(engine, root / "1-0")
        except CheckpointError as error:
            told.append(str(error))
        else:
            told.append({name: value for name, value in full_state(engine).items() if name.startswith("model/")})
        engine.destroy()
    return told


def test_another_topology_reads_it_and_whoever_trains_more_is_refused(
    reports: dict[int, list[list[dict[str, Any]]]], root: Path
) -> None:
    """Checkpoint of one rank without ZeRO, embedding and encoder frozen; whoever trains less may read it too."""
    loaded = run_ranks(_load_others, 2, root)
    expected = reports[1][0][0]["before"]
    for same, more, other, all_trained in loaded:
        for name in reports[1][0][0]["frozen"]:
            for found in (same, more):
                if f"model/{name}" in found:
                    assert torch.equal(found[f"model/{name}"], expected[f"model/{name}"])
        assert "parameters were frozen when it was saved, the first is embedding" in other
        assert "freeze them again (smoe.train.freeze), or start a new run with smoe.train.init_from" in all_trained
