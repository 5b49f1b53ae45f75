"""DeepSpeed's own ``save_checkpoint`` and ``load_checkpoint`` with our layer in a model that is not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smoe_ds.moe.losses import load_balancing_loss
from tests.helpers.engines import join_gloo
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank
WIDTH = 16


class Model(nn.Module):
    """Our layer, and DeepSpeed's behind it if asked for."""

    def __init__(self, ep_size: int, beside: bool) -> None:
        from deepspeed.moe.layer import MoE

        from smoe_ds.moe import stratified_moe

        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.block = stratified_moe(WIDTH, 32, [2, 4], ep_size=ep_size, dropout=0.1, bias_balancing=0.01)
        expert = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, WIDTH))
        self.other = MoE(WIDTH, expert, num_experts=2, ep_size=ep_size, k=1, drop_tokens=False) if beside else None

    def forward(self, x: Tensor) -> Tensor:
        y, stats = self.block(self.inner(x))
        loss = (y - x).square().mean() + 0.01 * load_balancing_loss([stats])
        if self.other is not None:
            z, balance_loss, _ = self.other(y)
            loss = loss + z.square().mean() + 0.01 * balance_loss
        return loss


def make_engine(ep_size: int, stage: int, beside: bool, seed: int) -> Any:
    import deepspeed
    from deepspeed.moe.utils import split_params_into_different_moe_groups_for_optimizer

    join_gloo()
    torch.manual_seed(seed)
    model = Model(ep_size, beside)
    parameters: Any = {"params": list(model.parameters()), "name": "all"}
    if ep_size > 1 or beside:
        parameters = split_params_into_different_moe_groups_for_optimizer(parameters)
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_clipping": 0.0,
        "optimizer": {"type": "Adam", "params": {"lr": 1e-2, "torch_adam": True, "weight_decay": 0.0}},
        "zero_optimization": {"stage": stage},
    }
    return deepspeed.initialize(model=model, model_parameters=parameters, config=config)[0]


def train(engine: Any, rank: int, steps: range) -> list[float]:
    losses = []
    for step in steps:
        torch.manual_seed(100 * step + rank)
        loss = engine(torch.randn(12, WIDTH))
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    return losses


def save_and_resume(
    rank: int, world_size: int, folder: str, ep_size: int, stage: int, beside: bool
) -> tuple[list[float], list[float], bool]:
    """Losses without an interruption, losses after a resume, and whether all parameters are equal then."""
    first = make_engine(ep_size, stage, beside, 0)
    train(first, rank, range(3))
    first.save_checkpoint(folder, tag="three")
    whole = train(first, rank, range(3, 6))
    second = make_engine(ep_size, stage, beside, 1)
    with torch.no_grad():  # nothing of the fresh model may be what the checkpoint should have brought
        for parameter in second.module.parameters():
            parameter.add_(1.0)
    second.load_checkpoint(folder, tag="three")
    resumed = train(second, rank, range(3, 6))
    pairs = zip(first.module.named_parameters(), second.module.named_parameters(), strict=True)
    return whole, resumed, all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize(("world_size", "ep_size", "beside"), [(1, 1, True), (2, 2, False), (2, 2, True)])
def test_resume_is_bitwise_equal(tmp_path: Path, world_size: int, ep_size: int, beside: bool, stage: int) -> None:
    for whole, resumed, equal in run_ranks(save_and_resume, world_size, str(tmp_path), ep_size, stage, beside):
        assert resumed == whole
        assert equal


def save_at(rank: int, world_size: int, folder: str, ep_size: int) -> None:
    make_engine(ep_size, 1, False, 0).save_checkpoint(folder, tag="start")


def load_weights_at(rank: int, world_size: int, folder: str, ep_size: int) -> str:
    from smoe_ds.errors import CheckpointError

    engine = make_engine(ep_size, 1, False, 0)
    try:
        engine.load_checkpoint(folder, tag="start", load_module_only=True)
    except CheckpointError as error:
        return str(error)
    return ""


def test_another_expert_parallel_size_is_refused(tmp_path: Path) -> None:
    run_ranks(save_at, 2, str(tmp_path), 2)
    names = sorted(path.name for path in (tmp_path / "start").glob("layer_*"))
    assert names == [f"layer_0_expert_{e}_mp_rank_00_model_states.pt" for e in range(6)]
    messages = run_ranks(load_weights_at, 3, str(tmp_path), 3)
    assert messages[0] == (
        "moe: the checkpoint has experts [0, 2] for this rank, which needs [0, 3] at ep_size 3; a checkpoint of "
        "DeepSpeed's loads only at the ep_size it was saved at"
    )
    assert messages[1] == ""  # files 2 and 3 happen to be experts 4 and 1, and are put in their places
    assert "has experts [3, 5]" in messages[2] and "needs [2, 5]" in messages[2]
