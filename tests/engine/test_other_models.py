"""The layer in a model that is not ours, under ``deepspeed.initialize``: the example of its document, as it stands."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from tests.helpers.engines import join_gloo
from tests.helpers.environment import ROOT
from tests.helpers.ranks import run_ranks

DOCUMENT = (ROOT / "smoe_ds/moe/README.md").read_text(encoding="utf-8")
STEPS, BATCH, LENGTH, VOCAB = 8, 4, 6, 32
BALANCE_WEIGHT = 1.0  # heavy, so that a gradient that is missing or wrong shows in the weights


def example() -> str:
    match = re.search(r"```python\n(.*?class Decoder.*?)```", DOCUMENT, re.DOTALL)
    assert match is not None
    return match[1]


def train(
    rank: int, world_size: int, kind: str, ep_size: int, stage: int, balance_weight: float = BALANCE_WEIGHT
) -> tuple[list[float], dict[str, Any]]:
    """Losses, averaged over ranks, and the parameters held here.

    The batch goes through in two halves, one after the other on one rank: a layer's own balance loss is that of the
    tokens it was given, and so has the same two values on two ranks.
    """
    import deepspeed
    from deepspeed.moe.utils import split_params_into_different_moe_groups_for_optimizer

    join_gloo()
    names: dict[str, Any] = {}
    exec(example(), names)
    torch.manual_seed(0)
    model = names["Decoder"](names[kind](ep_size), VOCAB)
    parameters: Any = {"params": list(model.parameters()), "name": "all"}
    parameters = split_params_into_different_moe_groups_for_optimizer(parameters) if ep_size > 1 else [parameters]
    config = {
        "train_batch_size": BATCH,
        "train_micro_batch_size_per_gpu": BATCH // 2,
        "gradient_clipping": 0.0,
        "optimizer": {"type": "Adam", "params": {"lr": 1e-2, "torch_adam": True, "weight_decay": 0.0}},
        "zero_optimization": {"stage": stage},
    }
    engine, *_ = deepspeed.initialize(model=model, model_parameters=parameters, config=config)
    tokens = torch.randint(0, VOCAB, (BATCH, LENGTH + 1), generator=torch.Generator().manual_seed(1))
    halves = tokens.split(BATCH // 2)[rank::world_size]
    losses = []
    for _ in range(STEPS):
        total = torch.zeros(())
        for half in halves:
            logits, balance_loss = engine(half[:, :-1])
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), half[:, 1:].flatten())
            engine.backward(loss + balance_weight * balance_loss)
            engine.step()
            total += loss.detach() / 2
        torch.distributed.all_reduce(total)
        losses.append(total.item())
    return losses, {name: p.detach().clone() for name, p in engine.module.named_parameters()}


@pytest.mark.multirank
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_weights_do_not_depend_on_the_expert_parallel_size(stage: int) -> None:
    ((expected, whole),) = run_ranks(train, 1, "stratified", 1, stage)
    assert expected[-1] < expected[0] - 0.5
    for losses, held in run_ranks(train, 2, "stratified", 2, stage):
        assert losses == pytest.approx(expected, rel=1e-4)
        for name, value in held.items():
            if name == "attention.in_proj_bias":  # the keys' bias has no gradient but rounding, which Adam blows up
                value[32:64] = whole[name][32:64]
            torch.testing.assert_close(value, whole[name], rtol=1e-3, atol=1e-4)


@pytest.mark.multirank
def test_the_balance_loss_teaches_the_gates() -> None:
    """Without it the weights are others: what the test above compares holds its gradient."""
    ((_, with_it),) = run_ranks(train, 1, "stratified", 1, 1)
    ((_, without),) = run_ranks(train, 1, "stratified", 1, 1, 0.0)
    gates = [name for name in with_it if ".gates." in name]
    assert len(gates) == 2
    assert all((with_it[name] - without[name]).abs().max() > 1e-2 for name in gates)


@pytest.mark.multirank
def test_deepspeeds_own_layer_in_the_same_model() -> None:
    for ranks in (1, 2):
        for losses, _ in run_ranks(train, ranks, "deepspeed_moe", ranks, 1):
            assert losses[-1] < losses[0] - 0.5
