"""Experts and gates with learning rates of their own train as in plain torch, on any topology, resumed or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.engines import (
    MICRO_BATCHES,
    VOCAB,
    Setup,
    digest,
    full_state,
    make_engine,
    micro_batch,
    moe_config,
    train,
)
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank

EXPERTS, GATES, CLIP = 0.25, 4.0, 0.1  # the norm is above CLIP in all steps
STEPS, STOP = 3, 2
BOTH = Setup(clip=CLIP, expert_lr_factor=EXPERTS, gate_lr_factor=GATES)
QUICK = {
    1: [BOTH, replace(BOTH, stage=0, precision="bf16"), replace(BOTH, stage=2, offload=True)],
    2: [replace(BOTH, stage=2, ep_size=2), replace(BOTH, stage=1), replace(BOTH, ep_size=2, expert_lr_factor=1.0)],
}
MORE = [
    *(replace(BOTH, stage=stage, ep_size=ep_size) for stage in (0, 1, 2) for ep_size in (1, 2)),
    *(replace(BOTH, stage=1, precision=half, ep_size=ep_size) for half in ("bf16", "fp16") for ep_size in (1, 2)),
    replace(BOTH, stage=0, precision="bf16", ep_size=2),
    replace(BOTH, stage=1, precision="bf16", gradient_dtype="fp32", ep_size=2),
    replace(BOTH, stage=2, offload=True, ep_size=2),
    replace(BOTH, stage=1, gate_lr_factor=1.0),
    replace(BOTH, stage=1, ep_size=2, freeze=("embedding", "*.experts.*.w1", "*.gates.0")),
]  # fmt: skip


def _label(setup: Setup) -> str:
    return (
        f"ZeRO {setup.stage}, {setup.precision}, ep {setup.ep_size}{', offload' * setup.offload}"
        f"{', fp32 gradients' * bool(setup.gradient_dtype)}{', frozen' * bool(setup.freeze)}, "
        f"{setup.expert_lr_factor}, {setup.gate_lr_factor}"
    )


def _train(rank: int, world_size: int, root: Path, setups: list[Setup]) -> list[dict[str, Any]]:
    from smoe_ds.engine.build import gradient_norm
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    results = []
    for number, setup in enumerate(setups):
        if setup.ep_size > world_size:
            results.append({})
            continue
        engine = make_engine(rank, world_size, setup)
        norms = []
        for step in range(STEPS):
            train(engine, rank, world_size, step, step + 1)
            norms.append(gradient_norm(engine))
            if step + 1 == STOP:
                folder = root / f"{world_size}-{number}"
                save_checkpoint(engine, folder, STOP, {}, keep_last=1)
        state, groups = full_state(engine), _groups(engine)
        engine.destroy()

        engine = make_engine(rank, world_size, setup)
        load_checkpoint(engine, folder)
        train(engine, rank, world_size, STOP, STEPS)
        resumed = digest(full_state(engine)) == digest(state)
        engine.destroy()
        results.append({"state": state, "norms": norms, "groups": groups, "resumed": resumed})
    return results


def _groups(engine: Any) -> list[tuple[str, float]]:
    """Name and learning rate of each parameter group."""
    return [(group["name"], group["lr"]) for group in engine.optimizer.param_groups]


def _reference(setup: Setup) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same steps in plain torch, one process, three parameter groups."""
    from smoe_ds.config.model import ModelConfig
    from smoe_ds.model.freezing import freeze, frozen_names
    from smoe_ds.model.transformer import Transformer

    sizes = ModelConfig(
        d_model=10, d_ffn=7, num_heads=2, encoder_layers=2, decoder_layers=2, dropout=0.0, attention_dropout=0.0
    )
    model = Transformer(sizes, moe_config(), VOCAB, seed=5)
    named = dict(model.named_parameters())
    freeze(model, frozen_names(named, setup.freeze))
    parts: dict[str, list[torch.nn.Parameter]] = {"experts": [], "gates": [], "others": []}
    for name, parameter in named.items():
        part = next((part for part in ("experts", "gates") if f".{part}." in name), "others")
        parts[part] += [parameter] * parameter.requires_grad
    factors = {"experts": setup.expert_lr_factor, "gates": setup.gate_lr_factor, "others": 1.0}
    groups = [{"params": parts[part], "factor": factor} for part, factor in factors.items()]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01)
    norms = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (step + 1) * group["factor"]
        for index in range(step * MICRO_BATCHES, (step + 1) * MICRO_BATCHES):
            src, tgt_in, tgt_out = micro_batch(index)
            loss = F.cross_entropy(model(src, tgt_in)[0].flatten(0, 1), tgt_out.flatten())
            (loss / MICRO_BATCHES).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
        optimizer.step()
        optimizer.zero_grad()
    return {name: parameter.detach() for name, parameter in named.items()}, norms


def _check(found: list[dict[str, Any]], setup: Setup) -> None:
    weights, norms = _reference(setup)
    exact = setup.precision == "fp32"
    assert min(norms) > CLIP
    assert found[0]["norms"] == pytest.approx(norms, rel=1e-5 if exact else 4e-2)
    state = {name: value for report in found for name, value in report["state"].items()}
    distances: dict[bool, list[torch.Tensor]] = {False: [], True: []}
    for name, expected in weights.items():
        if not name.endswith("key_value.bias"):  # its gradient is zero but for rounding
            own_rate = ".experts." in name or ".gates." in name
            distances[own_rate].append((state[f"master/{name}"] - expected).abs().flatten())
    for own_rate, parts in distances.items():
        assert torch.cat(parts).mean() < (1e-6 if exact else 2e-3), f"{_label(setup)}: {own_rate}"
    assert found[0]["groups"] == _expected_groups(setup)
    assert all(report["resumed"] for report in found), f"{_label(setup)}: a resumed run is another"


def _expected_groups(setup: Setup) -> list[tuple[str, float]]:
    """Dense parameters first, and of each kind those with the step's own rate."""
    experts, last = setup.expert_lr_factor, 1e-2 / STEPS
    dense = {1.0, setup.gate_lr_factor, *([experts] if setup.ep_size == 1 else [])}
    groups = [("dense", last * factor) for factor in sorted(dense, key=lambda factor: (factor != 1, factor))]
    return groups if setup.ep_size == 1 else [*groups, ("ep_size_2", last * experts)]


@pytest.mark.parametrize("world_size", [1, 2])
def test_updates_equal_plain_torch_and_a_resumed_run(tmp_path: Path, world_size: int) -> None:
    _compare(tmp_path, world_size, QUICK[world_size])


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_every_stage_and_precision(tmp_path: Path, world_size: int) -> None:
    _compare(tmp_path, world_size, MORE)


def _compare(root: Path, world_size: int, setups: list[Setup]) -> None:
    per_rank = run_ranks(_train, world_size, root, setups, timeout=300)
    for number, setup in enumerate(setups):
        if setup.ep_size <= world_size:
            _check([of_rank[number] for of_rank in per_rank], setup)


def _elsewhere(rank: int, world_size: int, root: Path) -> list[dict[str, torch.Tensor]]:
    """Loads a checkpoint with other groups, and saves from there for the next."""
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    states = []
    chain = [BOTH, replace(BOTH, stage=2, ep_size=2), Setup(1, ep_size=2), replace(BOTH, stage=1), Setup(clip=CLIP)]
    for number, setup in enumerate(chain):
        engine = make_engine(rank, world_size, setup)
        if number:
            load_checkpoint(engine, root / str(number - 1))
        else:
            train(engine, rank, world_size, 0, STOP)
        save_checkpoint(engine, root / str(number), STOP, {}, keep_last=1)
        states.append(full_state(engine))
        engine.destroy()
    return states


def test_checkpoints_are_the_same_whatever_the_rates_and_the_topology(tmp_path: Path) -> None:
    per_rank = run_ranks(_elsewhere, 2, tmp_path)
    whole = [{name: value for part in parts for name, value in part.items()} for parts in zip(*per_rank, strict=True)]
    first = whole[0]
    assert any(name.startswith("exp_avg/") for name in first)
    for state in whole[1:]:
        assert state.keys() == first.keys()
        assert all(torch.equal(value, first[name]) for name, value in state.items())


def test_factor_1_leaves_the_groups_as_they_were() -> None:
    from smoe_ds.engine.build import parameter_groups

    model = torch.nn.ModuleDict({name: torch.nn.Linear(2, 2) for name in ("dense", "gates", "experts")})
    parameters = list(model.parameters())
    (group,) = parameter_groups(model, lambda name: 1.0)
    assert group.keys() == {"name", "params"} and group["name"] == "dense"
    assert [id(p) for p in group["params"]] == [id(p) for p in parameters]
    groups = parameter_groups(model, lambda name: {"g": 2.0, "e": 0.5}.get(name[0], 1.0))
    assert [[id(p) for p in group["params"]] for group in groups] == [
        [id(p) for p in parameters[first : first + 2]] for first in (0, 4, 2)
    ]


def _flat_copies(rank: int, world_size: int) -> dict[str, float]:
    from deepspeed.runtime.fp16.fused_optimizer import FP16_Optimizer

    from smoe_ds.engine.build import parameter_groups, set_learning_rate
    from smoe_ds.engine.fragments import MASTER, fragments

    factors = {"dense": 1.0, "gates": 4.0, "experts": 0.25}
    torch.manual_seed(1)
    model = torch.nn.ModuleDict({name: torch.nn.Linear(2, 3) for name in factors}).bfloat16()
    adam = torch.optim.Adam(parameter_groups(model, lambda name: factors[name.split(".")[0]]), lr=1.0)
    wrapper = FP16_Optimizer(adam, low_precision_dtype=torch.bfloat16)
    adam.state.clear()  # of the step that the wrapper takes when it is made
    engine: Any = SimpleNamespace(module=model, optimizer=wrapper, basic_optimizer=adam)
    before = {name: part.view(adam, MASTER).clone() for name, part in fragments(engine).items()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    set_learning_rate(engine, 0.5)
    wrapper.step()
    return {name: float((before[name] - part.view(adam, MASTER)).mean()) for name, part in fragments(engine).items()}


def test_flat_copies_of_a_fused_optimizer() -> None:
    """DeepSpeed's wrapper for bf16 without ZeRO on a GPU, here around PyTorch's Adam, whose first step is the rate."""
    (moved,) = run_ranks(_flat_copies, 1)
    factors = {"dense": 1.0, "gates": 4.0, "experts": 0.25}
    assert moved == pytest.approx({f"{n}.{p}": 0.5 * factors[n] for n in factors for p in ("weight", "bias")})
