"""What a run says of itself before its first step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from smoe_ds.config.run import RunConfig
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.parallel.cores import cores_here
from smoe_ds.parallel.env import Env
from smoe_ds.parallel.threads import NUMBER
from smoe_ds.planning.plan import placement_warnings
from smoe_ds.train.coverage import Coverage
from smoe_ds.train.log_events import Introduction
from smoe_ds.weights.start_from import changed_settings


def introduction(
    run: RunConfig, env: Env, model: nn.Module, device: torch.device, *, step: int, directions: int, coverage: Coverage
) -> Introduction:
    """The event.

    Args:
        run: what is trained.
        env: this process.
        model: its part of the model.
        device: where it computes.
        step: that the run goes on from.
        directions: number of trained directions.
        coverage: how much of the validation text is read.
    """
    about = _about(run, env, model, device, step=step, directions=directions, coverage=coverage)
    return Introduction(about=tuple(about), config=json.dumps(run.to_dict(), indent=2, ensure_ascii=False))


def _about(
    run: RunConfig, env: Env, model: nn.Module, device: torch.device, *, step: int, directions: int, coverage: Coverage
) -> Iterator[str]:
    train, moe = run.smoe.train, run.smoe.moe
    local = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = "" if trained == local else f", {trained:,} of them trained (smoe.train.freeze)"
    fresh = "from the beginning" if train.init_from is None else f"with the weights of {train.init_from}"
    started = f"continuing after step {step}" if step else fresh
    yield (
        f"training {Path(train.output_dir)} on {env.world_size} rank(s) ({env.launcher}), {run.precision}, "
        f"ZeRO {run.zero_stage}, ep_size {moe.ep_size}, strata {moe.strata}: "
        f"{local:,} parameters on rank 0{frozen}, {directions} directions, {started}"
    )
    yield _threads(env.local_world_size)
    for warning in placement_warnings(run):
        yield f"warning: {warning}"
    if train.init_from is not None and not step:
        for line in changed_settings(Path(train.init_from), run.smoe):
            yield f"warning: {line} in this run (smoe.train.init_from): the weights were trained with the first"
    block = next((module for module in model.modules() if isinstance(module, StratifiedMoE)), None)
    if block is not None:
        dtype = next(block.experts.parameters()).dtype
        backend = f"{block.backend(device, dtype)} ({moe.expert_backend})"
        yield f"experts: {backend}, {str(dtype).removeprefix('torch.')} on {device.type}"
    if coverage.warning:
        yield coverage.warning


def _threads(ranks: int) -> str:
    """How many threads rank 0 computes with; a warning where its host has not that many cores."""
    threads, cores = torch.get_num_threads(), cores_here()
    text = f"{threads} thread(s) a rank, {ranks} rank(s) on this host, which may use {cores.together} core(s)"
    if cores.own < cores.host:
        text += f"; the launcher has bound rank 0 to {cores.own}"
    if threads > cores.allowed:
        return f"warning: {text}; threads wait for each other: set {NUMBER} to {cores.share(ranks)}"
    return text
