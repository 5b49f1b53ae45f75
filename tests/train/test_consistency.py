"""Two passes of a micro-batch that learn to agree: the loss against loops, its statistics, and whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smoe_ds.config import load_run
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.routers.random import Random
from smoe_ds.errors import ConfigError
from smoe_ds.model.loss import consistency_loss, translation_loss
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.moe.losses import auxiliary_losses, load_balancing_loss
from smoe_ds.train.meters import Meter
from smoe_ds.train.micro_step import LossSettings, MicroStep, forward, seed_micro_batch
from tests.helpers.environment import ROOT
from tests.helpers.small_run import scalars, small_run
from tests.train.test_micro_step import CPU, SIZES, VOCAB, batch
from tests.train.test_run import checkpoint_hashes, train

ALPHA, SCALE = 3.0, 0.25
THOR = ['smoe.moe.router={"kind":"random"}']


def two_logits() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 2, 3, 7, generator=generator, dtype=torch.float64).requires_grad_().unbind()
    return one, other, torch.tensor([[4, 5, 0], [6, 0, 0]])


def naive_consistency(one: Tensor, other: Tensor, target: Tensor) -> Tensor:
    """Both divergences of every target token, one after the other."""
    total = torch.zeros((), dtype=torch.float64)
    for b in range(target.shape[0]):
        for t in range(target.shape[1]):
            if target[b, t] != 0:
                p, q = torch.softmax(one[b, t], 0), torch.softmax(other[b, t], 0)
                for v in range(len(p)):
                    total = total + p[v] * (p[v] / q[v]).log() / 2 + q[v] * (q[v] / p[v]).log() / 2
    return total


def test_equals_a_loop_over_tokens_with_its_gradient() -> None:
    one, other, target = two_logits()
    found, expected = consistency_loss(one, other, target), naive_consistency(one, other, target)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(loss, [one, other]) for loss in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        assert a[target == 0].abs().sum() == 0 < a.abs().sum()


def test_symmetric_and_without_padding() -> None:
    one, other, target = two_logits()
    loss = consistency_loss(one, other, target)
    assert loss > 0
    assert torch.equal(loss, consistency_loss(other, one, target))
    assert torch.equal(loss, consistency_loss(one.masked_fill((target == 0).unsqueeze(2), 3.0), other, target))
    assert consistency_loss(one, one + 2.0, target).item() == pytest.approx(0, abs=1e-12)


def model_of(moe: MoeConfig) -> Transformer:
    sizes = SIZES.model_copy(update={"dropout": 0.0, "attention_dropout": 0.0})
    return Transformer(sizes, moe.model_copy(update={"expert_init": "xavier"}), VOCAB, seed=3).double()


def micro_step(model: Transformer, moe: MoeConfig, index: int = 0) -> MicroStep:
    seed_micro_batch(1, index)
    settings = LossSettings(0.1, auxiliary_losses(moe, SIZES), consistency=moe.consistency_weight(SIZES))
    return forward(model, batch(), settings, CPU, SCALE)


def test_the_step_is_made_of_two_passes_in_a_row() -> None:
    """Also the load-balancing loss of a gate beside it: over the tokens of both."""
    moe = MoeConfig(strata=[4], layers={"encoder.*": {"router": Random(consistency=ALPHA)}})
    model, words = model_of(moe), batch()
    step = micro_step(model, moe)
    seed_micro_batch(1, 0)
    (one, first), (other, second) = (model(words.src, words.tgt_in, 21, 21) for _ in range(2))
    assert not torch.equal(one, other)
    smoothed = [translation_loss(logits, words.tgt_out, 0.1).smoothed for logits in (one, other)]
    agreement = naive_consistency(one, other, words.tgt_out) * SCALE
    balance = load_balancing_loss([a + b for a, b in zip(first, second, strict=True)])
    expected = sum(smoothed) / 2 * SCALE + ALPHA * agreement + 0.01 * balance
    torch.testing.assert_close(step.loss, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(step.translation.smoothed, sum(smoothed) / 2)
    torch.testing.assert_close(step.auxiliary["consistency_loss"], agreement.detach())
    assert list(step.auxiliary) == ["consistency_loss", "load_balancing_loss"]
    assert balance.item() == pytest.approx(sum(load_balancing_loss(s).item() for s in (first, second)) / 2, rel=0.1)
    parameters = list(model.parameters())
    both = (torch.autograd.grad(loss, parameters, materialize_grads=True) for loss in (step.loss, expected))
    for got, want in zip(*both, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10)


def test_equal_experts_agree_whatever_is_drawn() -> None:
    moe = MoeConfig(strata=[4], router=Random(consistency=ALPHA))
    model = model_of(moe)
    for module in model.modules():
        if isinstance(module, ExpertFFN):
            module.load_state_dict({name: torch.full_like(p, 0.1) for name, p in module.state_dict().items()})
    step = micro_step(model, moe)
    assert step.auxiliary["consistency_loss"].item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(step.loss, step.translation.smoothed * SCALE)
    once = micro_step(model, MoeConfig(strata=[4], router=Random(consistency=0.0)))
    assert once.auxiliary == {}
    torch.testing.assert_close(step.loss, once.loss)


def test_the_log_shows_means_of_both_passes() -> None:
    moe = MoeConfig(strata=[2, 2], router=Random(consistency=ALPHA))
    model, words = model_of(moe), batch()
    meter, steps = Meter(["encoder.2", "decoder.2"], lambda values: values), 5
    micro_steps = [micro_step(model, moe, index) for index in range(steps)]
    for step in micro_steps:
        meter.add(step, words)
    meter.end_step(keep=True)
    interval = meter.take()
    assert interval.tokens == steps * (words.num_src_tokens + words.num_tgt_tokens)
    for block, name in enumerate(("encoder.2", "decoder.2")):
        passes = [step.stats[block].num_passes for step in micro_steps]
        assert interval.requested_capacity[name] == pytest.approx(sum(passes) / (2 * 21 * steps))
    mean = sum(step.auxiliary["consistency_loss"].item() for step in micro_steps) / steps
    assert interval.auxiliary == {"consistency_loss": pytest.approx(mean)}
    assert interval.loss == pytest.approx(sum(s.translation.smoothed.item() for s in micro_steps) / (21 * steps))


def test_one_weight_for_all_blocks() -> None:
    other = 'smoe.moe.layers={"decoder.*": {"router": {"kind": "random", "consistency": 1.0}}}'
    with pytest.raises(ConfigError, match="weights 1, 5, but there is one such loss; give their routers the same"):
        load_run(ROOT / "ds_configs" / "m4.json", [*THOR, other])


@pytest.mark.multirank
@pytest.mark.parametrize(
    "settings",
    [["smoe.moe.ep_size=1", "zero_optimization.stage=2"], ["smoe.moe.ep_size=2", "smoe.moe.exchange_chunks=2"]],
    ids=["alone", "spread"],
)
def test_runs_with_activation_checkpointing_and_resumed_runs_are_the_same(
    tmp_path: Path, corpus_folder: Path, settings: list[str]
) -> None:
    def run(name: str) -> dict[str, Any]:
        return small_run(tmp_path / name, corpus_folder)

    settings = [*THOR, *settings, "train_batch_size=4"]
    plain = train(tmp_path, run("plain"), *settings)
    parts = run("parts")
    train(tmp_path, parts, *settings, "smoe.train.max_steps=2")
    resumed = train(tmp_path, parts, *settings, "smoe.train.activation_checkpointing=true")
    assert checkpoint_hashes(resumed, 6) == checkpoint_hashes(plain, 6)
    logged = scalars(plain)
    assert len(logged["train/consistency_loss"]) == 6
    assert min(logged["train/consistency_loss"].values()) > 0
    assert logged["train/nll"][6] < logged["train/nll"][1]
    assert "train/load_balancing_loss" not in logged
