"""Meters against sums made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from smoe_ds.data.batch import Batch, empty_batch
from smoe_ds.model.loss import TranslationLoss
from smoe_ds.moe.placement import Placement
from smoe_ds.moe.stats import BlockStats, ModelStats, StratumStats
from smoe_ds.train.meters import Meter
from smoe_ds.train.micro_step import MicroStep


def stratum(tokens: int, requested: list[list[int]], dropped: int, entropy: float) -> StratumStats:
    requested_KE = torch.tensor(requested)
    zero_E = torch.zeros(requested_KE.shape[1])
    return StratumStats(tokens, zero_E, requested_KE, dropped, torch.tensor(entropy), torch.tensor(0.0))


def micro_step(smoothed: float, nll: float, balance: float | None, strata: list[StratumStats]) -> MicroStep:
    stats = [BlockStats(strata, torch.zeros(0))] if strata else []
    auxiliary = {} if balance is None else {"load_balancing_loss": torch.tensor(balance)}
    return MicroStep(torch.tensor(0.0), TranslationLoss(torch.tensor(smoothed), torch.tensor(nll)), auxiliary, stats)


def batch(src: int, tgt: int) -> Batch:
    ids = torch.zeros(1, 1, dtype=torch.long)
    return Batch(ids, ids, ids, src, tgt, ("a-b",), 0)


def test_meter_means() -> None:
    meter = Meter(["encoder.1"], lambda values: values * 2)  # two ranks that saw the same
    first = [stratum(10, [[6, 4], [4, 6]], 3, 5.0), stratum(4, [[4]], 0, 0.0)]
    second = [stratum(30, [[30, 0], [0, 30]], 7, 15.0), stratum(6, [[6]], 2, 0.0)]
    meter.add(micro_step(20.0, 18.0, 1.0, first), batch(7, 5))
    meter.add(micro_step(40.0, 36.0, 2.0, second), batch(9, 15))
    meter.end_step(keep=True)
    interval = meter.take()
    assert (interval.loss, interval.nll, interval.balance_loss, interval.tokens) == (3.0, 2.7, 1.5, 72)
    assert interval.requested_capacity == {"encoder.1": pytest.approx(50 / 40)}
    assert interval.mean_rc == pytest.approx(1.25)
    gate, last = interval.strata["encoder.1"]
    assert (gate.tokens, gate.load, gate.dropped, gate.entropy) == pytest.approx((1.0, 1.0, 10 / 80, 0.5))
    assert (last.tokens, last.load, last.dropped) == pytest.approx((0.25, 1.0, 0.2))
    assert (gate.choices, gate.width, last.choices) == (2.0, None, 1.0)


def test_meter_shows_the_width_of_the_experts_wanted() -> None:
    meter = Meter(["encoder.1"], lambda values: values * 2)
    for requested in ([[3, 1], [1, 1]], [[4, 0], [0, 2]]):  # 8 and 4 rows
        of_two = replace(stratum(4, requested, 0, 0.0), widths_E=torch.tensor([8, 24]))
        meter.add(micro_step(1.0, 1.0, 1.0, [of_two]), batch(1, 1))
    meter.end_step(keep=True)
    (load,) = meter.take().strata["encoder.1"]
    assert (load.choices, load.width) == pytest.approx((12 / 8, (8 * 8 + 4 * 24) / 12))


def test_losses_by_direction_are_those_of_their_sentences() -> None:
    meter = Meter([], lambda values: values * 2, ["a-b", "b-a", "c-d"])
    totals: dict[str, list[float]] = {"b-a": [0.0, 0.0], "a-b": [0.0, 0.0]}
    for number, directions in enumerate([("b-a", "a-b", "b-a"), ("a-b", "a-b")]):
        nll_B = torch.tensor([1.5, 4.0, 0.25][: len(directions)]) + number
        tgt_out = torch.tensor([[5, 6, 2], [7, 2, 0], [2, 0, 0]])[: len(directions)]
        for direction, nll, row in zip(directions, nll_B.tolist(), tgt_out.tolist(), strict=True):
            totals[direction][0] += nll
            totals[direction][1] += sum(token != 0 for token in row)
        loss = TranslationLoss(nll_B.sum(), nll_B.sum(), nll_B)
        of_batch = Batch(tgt_out, tgt_out, tgt_out, 3, int((tgt_out != 0).sum()), directions, number)
        meter.add(MicroStep(torch.tensor(0.0), loss, {}, ModelStats()), of_batch)
    empty = TranslationLoss(torch.tensor(0.0), torch.tensor(0.0), torch.zeros(1))
    meter.add(MicroStep(torch.tensor(0.0), empty, {}, ModelStats()), empty_batch())
    meter.end_step(keep=True)
    expected = {direction: nll / tokens for direction, (nll, tokens) in totals.items()}
    assert meter.take().nll_by_direction == pytest.approx(expected)


def test_meter_tells_experts_apart_and_which_are_dead() -> None:
    meter = Meter(["encoder.1"], lambda values: values, placements=[Placement((2, 2))])
    for _ in range(2):
        gates = [stratum(4, [[2, 0, 1, 1], [1, 0, 1, 2]], 0, 0.0), stratum(2, [[0, 2]], 0, 0.0)]
        meter.add(micro_step(1.0, 1.0, 1.0, gates), batch(1, 1))
    meter.end_step(keep=True)
    first, last = meter.take().strata["encoder.1"]
    assert (first.rows, first.dead, first.first_expert) == ((6, 0, 4, 6), 1, 0)
    assert (last.rows, last.dead, last.first_expert) == ((0, 4), 1, 2)


def test_meter_shows_imbalance_and_starts_anew() -> None:
    meter = Meter(["encoder.1"], lambda values: values)
    meter.add(micro_step(1.0, 1.0, 1.0, [stratum(10, [[10, 0]], 0, 0.0)]), batch(1, 1))
    meter.end_step(keep=True)
    assert meter.take().strata["encoder.1"][0].load == 2.0
    meter.add(micro_step(6.0, 6.0, 1.0, [stratum(10, [[5, 5]], 0, 0.0)]), batch(1, 2))
    meter.end_step(keep=True)
    again = meter.take()
    assert (again.loss, again.strata["encoder.1"][0].load) == (3.0, 1.0)


def test_a_step_left_out_shows_only_where_there_is_no_other() -> None:
    meter = Meter([], lambda values: values)
    for smoothed, keep in ((4.0, True), (math.nan, False), (8.0, True), (math.nan, False)):
        meter.add(micro_step(smoothed, smoothed, None, []), batch(1, 2))
        meter.end_step(keep=keep)
    assert meter.take().loss == 3.0
    meter.add(micro_step(math.nan, math.nan, None, []), batch(1, 2))
    meter.end_step(keep=False)
    assert math.isnan(meter.take().loss)
    meter.add(micro_step(2.0, 2.0, None, []), batch(1, 2))
    meter.end_step(keep=True)
    assert meter.take().loss == 1.0


def test_dense_model_and_padding_only() -> None:
    meter = Meter([], lambda values: values)
    meter.add(micro_step(0.0, 0.0, None, []), empty_batch())
    meter.end_step(keep=True)
    interval = meter.take()
    assert (interval.loss, interval.balance_loss, interval.mean_rc, interval.tokens) == (0.0, None, None, 0)
