"""Every system learns from where it starts by default: nothing that begins at zero keeps a gradient from the rest."""

from __future__ import annotations

import pytest
import torch

from smoe_ds.config import load_run
from smoe_ds.data.batch import Batch
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.losses import auxiliary_losses
from smoe_ds.planning.systems import SYSTEMS, System, run_of
from smoe_ds.train.micro_step import LossSettings, forward, seed_micro_batch
from tests.helpers.environment import ROOT

VOCAB = 60
SIZES = {"d_model": 16, "d_ffn": 32, "num_heads": 4, "language_capacity.languages": 3}
PLAIN = [f"smoe.model.{key}={value}" for key, value in SIZES.items()] + ["smoe.moe.ep_size=1"]


@pytest.mark.parametrize("strata", ["[4,4]", "[2,2,2,2]"])
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_a_gradient_reaches_every_parameter(system: System, strata: str) -> None:
    """But for experts that tokens took in one step at most: from zero, only the second step reaches all."""
    run = run_of(system, load_run(ROOT / "ds_configs/quickstart.json", [*PLAIN, f"smoe.moe.strata={strata}"]))
    model = Transformer(run.smoe.model, run.smoe.moe, VOCAB, seed=1)
    model.progress = 0.5
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = auxiliary_losses(run.smoe.moe, run.smoe.model)
    settings = LossSettings(0.1, losses, consistency=run.smoe.moe.consistency_weight(run.smoe.model))
    generator = torch.Generator().manual_seed(3)
    moved = {name: 0 for name, _ in model.named_parameters()}
    for step in range(10):
        src, tgt = torch.randint(8, VOCAB, (2, 64, 12), generator=generator)
        src[:, 0] = tgt[:, 0] = torch.randint(4, 7, (64,), generator=generator)  # language tokens
        seed_micro_batch(3, step)
        batch = Batch(src, tgt, tgt.roll(-1, 1), src.numel(), tgt.numel(), directions=("a-b",) * 64, index=step)
        optimizer.zero_grad()
        forward(model, batch, settings, torch.device("cpu"), 1 / tgt.numel()).loss.backward()
        optimizer.step()
        for name, parameter in model.named_parameters():
            moved[name] += parameter.grad is not None and bool(parameter.grad.any())
    used = {name.rsplit(".", 1)[0]: 0 for name in moved if ".experts." in name}
    for name, steps in moved.items():
        if (expert := name.rsplit(".", 1)[0]) in used:
            used[expert] = max(used[expert], steps)
    assert len([expert for expert, steps in used.items() if steps > 1]) >= len(used) / 3
    dead = [name for name, steps in moved.items() if not steps and used.get(name.rsplit(".", 1)[0], 2) > 1]
    assert not dead, dead
