"""DynMoE's gate against the loop over tokens, its losses by hand, and a scripted sequence of windows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.adaptive import Adaptation, Rewrite
from smoe_ds.moe.losses import token_mean_loss
from smoe_ds.moe.routers.dynamic_pool import add_to_records, empty_records, recorded
from smoe_ds.moe.routing import RoutingContext
from tests.helpers.naive_block import NaiveRouter, Preference
from tests.helpers.router_cases import D, assert_equals_loop, router_layer, sentences

ROUTER = {"kind": "dynamic"}


class Identity(torch.autograd.Function):
    """1 forward, the identity's gradient backward."""

    @staticmethod
    def forward(ctx: object, a: Tensor) -> Tensor:
        return torch.ones_like(a)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


def naive(layer: StratifiedMoE, lost: list[int] | None = None) -> NaiveRouter:
    """The gate, token by token; positions that take no expert by themselves are put into ``lost``."""

    def route(stratum: int, positions: list[int], tokens: list[Tensor]) -> list[Preference]:
        router = layer.mixtures[stratum].router
        on = [e for e in range(router.visible) if router.active[e]]
        result = []
        for n, h in zip(positions, tokens, strict=True):
            score, above = {}, {}
            for e in on:
                w = router.weight[e]
                score[e] = torch.sigmoid((h * w).sum() / (h.norm() * w.norm()))
                above[e] = score[e] - torch.sigmoid(router.threshold[e])
            taken = sorted((e for e in on if above[e] > 0), key=lambda e: (-above[e].item(), e))
            gates: list[tuple[int, Tensor]] = [(e, Identity.apply(above[e]) / len(taken)) for e in taken]
            first = taken[0] if taken else min(on, key=lambda e: (-score[e].item(), e))
            if not taken:
                if lost is not None:
                    lost.append(n)
                if not layer.training:
                    gates = [(first, torch.ones((), dtype=h.dtype))]
            result.append((first, gates))
        return result

    return route


def with_thresholds(layer: StratifiedMoE, by: float, off: Sequence[int] = ()) -> StratifiedMoE:
    """The layer with higher thresholds, so that some tokens take nothing, and some experts off in every gate."""
    for mixture in layer.mixtures:
        mixture.router.threshold.data += by
        mixture.router.active[list(off)] = 0
    return layer


@pytest.mark.parametrize("backend", ["loop", "lean"])
@pytest.mark.parametrize("off", [[], [1]], ids=str)
@pytest.mark.parametrize("strata", [[4], [2, 3], [1, 2, 2]], ids=str)
def test_equals_the_loop(strata: list[int], off: list[int], backend: str) -> None:
    layer = with_thresholds(router_layer(strata, ROUTER, expert_backend=backend), 0.6, off)
    for training in (True, False):
        lost: list[int] = []
        assert_equals_loop(layer.train(training), naive(layer, lost))
        assert lost


def test_several_experts_are_taken_and_none_is_ever_full() -> None:
    layer = router_layer([6], ROUTER, capacity_factor=2.0)
    for mixture in layer.mixtures:
        mixture.router.threshold.data -= 9.0
    x, ids, padding = sentences()
    _, stats = layer(x, padding, None, ids)
    assert stats.strata[0].requested_KE.sum(0).tolist() == [stats.num_tokens] * 6
    assert stats.strata[0].num_dropped == 0


def test_gates_learn_from_the_tokens_that_take_their_expert_alone() -> None:
    layer = router_layer([3], ROUTER)
    router = layer.mixtures[0].router
    router.threshold.data.copy_(torch.tensor([-9.0, 9.0, -9.0]))
    router.active[2] = 0
    x, ids, padding = sentences()
    layer(x, padding, None, ids)[0].square().sum().backward()
    assert router.weight.grad[0].abs().sum() > 0 and router.threshold.grad[0] != 0
    assert not router.weight.grad[1:].any() and not router.threshold.grad[1:].any()
    assert layer.experts["0"].w1.grad.any()
    assert not layer.experts["2"].w1.grad.any()


def test_forbidden_experts_are_not_taken_and_nothing_counts_as_lost_then() -> None:
    """As where a micro-batch stays on its rank."""
    router = with_thresholds(router_layer([4], ROUTER), 0.4, [3]).mixtures[0].router
    h = torch.randn(50, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    free = router(h, None, RoutingContext(training=True))
    forbidden = torch.tensor([True, False, True, False])
    held = router(h, None, RoutingContext(training=True, forbidden_E=forbidden))
    assert set(free.expert_TK[free.chosen_TK].tolist()) == {0, 1, 2}
    assert set(held.expert_TK[held.chosen_TK].tolist()) == {1}
    assert held.chosen_TK.sum() == (free.expert_TK[free.chosen_TK] == 1).sum()
    assert held.chosen_TK[:, 0].sum() == held.chosen_TK.sum()  # what a token takes comes first
    assert set(held.expert_TK[:, 0].tolist()) == {0, 1, 2}  # the others follow any expert that is on
    assert free.sums.records[0] > 0 and not held.sums.records.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_gate_computes_in_float32(dtype: torch.dtype) -> None:
    layer = router_layer([4], ROUTER).to(dtype)
    wide = layer.mixtures[0].router
    h = torch.randn(40, D, generator=torch.Generator().manual_seed(2)).to(dtype)
    half = wide(h, None, RoutingContext(training=True))
    full = wide.float()(h.float(), None, RoutingContext(training=True))
    assert half.weights_TK.dtype == torch.float32
    assert torch.equal(half.expert_TK, full.expert_TK) and torch.equal(half.sums.records, full.sums.records)
    y, _ = layer.to(dtype)(h)
    assert y.dtype == dtype and y.isfinite().all()


def test_starts_with_orthogonal_vectors_and_a_cosine_above_zero_takes_the_expert() -> None:
    layer = StratifiedMoE(D, 4, [4], router=ROUTER)
    weight = layer.mixtures[0].router.weight
    torch.testing.assert_close(weight @ weight.t(), torch.eye(4))
    x, ids, padding = sentences()
    h = layer.norms[0](x[~padding].float())
    _, stats = layer(x.float(), padding, None, ids)
    assert stats.strata[0].requested_KE.sum(0).tolist() == (h @ weight.t() > 0).sum(0).tolist()


def test_some_experts_are_on_at_the_start() -> None:
    layer = StratifiedMoE(4, 4, [2, 4], router={"kind": "dynamic", "start_experts": 3})
    assert [mixture.router.active.tolist() for mixture in layer.mixtures] == [[1, 0, 1, 0, 1, 0], [1, 1, 1, 0]]


def test_losses_by_hand() -> None:
    router = {"kind": "dynamic", "efficiency_weight": 0.1}
    layer = with_thresholds(router_layer([2, 3], router), 0.0, [1])
    x, ids, padding = sentences()
    _, stats = layer(x, padding, None, ids)
    expected = dict.fromkeys(("diversity_loss", "simplicity_loss", "efficiency_loss"), 0.0)
    for stratum, mixture in zip(stats.strata, layer.mixtures, strict=True):
        vectors = mixture.router.weight.tolist()
        on = [e for e in range(len(vectors)) if e != 1]
        lengths = [math.hypot(*vector) for vector in vectors]
        cosines = {
            (a, b): sum(p * q for p, q in zip(vectors[a], vectors[b], strict=True)) / lengths[a] / lengths[b]
            for a in on
            for b in on
        }
        expected["diversity_loss"] += math.sqrt(sum((c - (a == b)) ** 2 for (a, b), c in cosines.items())) / 2
        expected["simplicity_loss"] += sum(lengths) / len(lengths) / 2
        rows = int(stratum.requested_KE.sum())
        expected["efficiency_loss"] += rows / stratum.num_tokens / len(vectors) / 2
        assert stratum.prob_sum_E.sum().item() == pytest.approx(int(stratum.requested_KE[0].sum()))
    for name, value in expected.items():
        assert token_mean_loss([stats], name).item() == pytest.approx(value)
        assert layer.block.router.losses()[name] > 0


def test_not_a_number_raises_the_alarm() -> None:
    from smoe_ds.errors import NonFiniteError

    layer = router_layer([3], ROUTER)
    x, ids, padding = sentences()
    x[0, 0, 0] = math.nan
    with pytest.raises(NonFiniteError):
        layer(x, padding, None, ids)


class Scripted:
    """One gate of four experts along the first four axes, the last off; a cycle of four steps, recorded 1 to 2."""

    def __init__(self) -> None:
        router = {"kind": "dynamic", "cycle": 4, "record_after": 1, "record_steps": 2}
        self.layer = StratifiedMoE(6, 4, [4], router=router).double()
        self.gate = self.layer.mixtures[0].router
        self.gate.weight.data.copy_(torch.eye(4, 6))
        self.gate.threshold.data.fill_(0.1)
        self.gate.active[3] = 0
        self.adaptation = Adaptation([self.layer.adaptive()], lambda counts: counts, self.write)

    @staticmethod
    def write(rewrites: Sequence[Rewrite]) -> None:
        for one in rewrites:
            one.parameter.data.view(-1)[one.first : one.first + one.values.numel()] = one.values.to(one.parameter.dtype)

    def add(self, *tokens: Sequence[float]) -> Tensor:
        """A micro-batch; returns its tokens as the gate sees them."""
        x = torch.tensor(tokens, dtype=torch.float64).view(-1, 6)
        _, stats = self.layer(x)
        self.adaptation.add([stats])
        return self.layer.norms[0](x).detach()

    def step(self, *tokens: Sequence[float]) -> Tensor:
        """A step of one micro-batch."""
        h = self.add(*tokens)
        self.adaptation.step()
        return h


ON_0, ON_1, ON_2, ON_3, NONE, OTHER = ([5.0 if place == axis else -1.0 for place in range(6)] for axis in range(6))
"""Tokens that take one of the experts, and two that take none."""


def test_experts_come_and_go_in_windows() -> None:
    run = Scripted()
    gate = run.gate
    run.step(ON_0, ON_1, ON_2, OTHER)  # before the window: not recorded
    assert not gate.records.any()
    first = run.add(ON_0, NONE)
    run.step(ON_0)
    assert recorded(gate.records)[:5].tolist() == [2 << 20, 0, 0, 0, 1 << 20]
    assert gate.active.tolist() == [1, 1, 1, 0]
    second = run.step(ON_2, ON_0, OTHER, NONE)  # the window ends: 1 was not used, and is the first one free
    assert gate.active.tolist() == [1, 1, 1, 0]
    vector = first[1] + second[2] + second[3]
    torch.testing.assert_close(gate.weight[1].detach(), vector / vector.norm(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gate.threshold.detach(), torch.tensor([0.1, 0, 0.1, 0.1]).double())
    assert not gate.records.any() and gate.position.item() == 3
    run.step(ON_2)
    assert gate.position.item() == 0
    for _ in range(3):
        run.step(ON_0, NONE)  # which the new expert takes
    assert gate.active.tolist() == [1, 1, 0, 0]


def test_if_no_expert_was_used_a_new_one_is_the_only_one() -> None:
    run = Scripted()
    for _ in range(3):
        h = run.step(NONE)
    assert run.gate.active.tolist() == [1, 0, 0, 0]
    torch.testing.assert_close(run.gate.weight[0].detach(), h[0] / h[0].norm(), rtol=1e-5, atol=1e-5)


def test_a_full_pool_and_a_gate_without_tokens_stay_as_they_are() -> None:
    for tokens, active in (((ON_0, ON_1, ON_2, ON_3, NONE), [1, 1, 1, 1]), ((), [1, 1, 1, 0])):
        run = Scripted()
        run.gate.active.copy_(torch.tensor(active))
        for _ in range(3):
            run.step(*tokens)
        assert run.gate.active.tolist() == active and run.gate.position.item() == 3
        assert torch.equal(run.gate.weight, torch.eye(4, 6))


def test_a_step_that_was_not_taken_is_not_recorded() -> None:
    run = Scripted()
    run.step(ON_0)
    run.add(ON_1)
    run.adaptation.discard()
    run.step(ON_0)
    assert recorded(run.gate.records)[:5].tolist() == [1 << 20, 0, 0, 0, 0] and run.gate.position.item() == 2


def test_records_are_exact_and_their_parts_fit_into_a_checkpoint() -> None:
    records, total = empty_records(1, 1), torch.zeros(3, dtype=torch.long)
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        counts = torch.randint(-(1 << 45), 1 << 45, (3,), generator=generator)
        add_to_records(records, counts)
        total += counts
        assert records.abs().max() < 1 << 24
        assert torch.equal(recorded(records.float().long()), total)
    assert (total < 0).any()


def test_a_cycle_of_zero_never_changes_the_experts() -> None:
    layer = StratifiedMoE(6, 4, [4], router={"kind": "dynamic", "cycle": 0})
    assert layer.adaptive() == []
    assert layer(torch.zeros(2, 6))[1].strata[0].records is None


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cycle: 500 ends before record_after \+ record_steps = 600; raise it"):
        BlockSettings(strata=[4], router={"kind": "dynamic", "cycle": 500})
    with pytest.raises(ValueError, match="start_experts 3 is above the 2 experts that a gate of strata"):
        BlockSettings(strata=[4, 2], router={"kind": "dynamic", "start_experts": 3})
    with pytest.raises(ValueError, match="capacity_factor: the router dynamic does not use it; leave it out or set"):
        BlockSettings(strata=[4], router={"kind": "dynamic"}, capacity_factor=1.0)
