"""Means over seeds, their errors, and tests of each system against another one; made of rows alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean, stdev

import numpy as np

from smoe_ds.evaluate.counts import Tested, p_value, randomised
from smoe_ds.study.directions import ALL, directions_of, groups_of
from smoe_ds.study.row import Row

METRICS = ("nll", "bleu", "chrf")
"""Validation NLL, BLEU and chrF++."""
_EXACT = 12  # pairs up to which all signs are tried
_DRAWS = 4096
_TRIALS = 2000


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Attributes:
        value: the mean.
        error: its standard error; None with one seed.
    """

    value: float
    error: float | None = None

    @staticmethod
    def of(values: Sequence[float]) -> Mean | None:
        """The mean of some values; None of none."""
        if not values:
            return None
        return Mean(mean(values), stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None)


@dataclass(frozen=True)
class Difference:
    """How far a system is from another one in one metric and group of directions, over the seeds that both have.

    Attributes:
        value: mean difference.
        error: its standard error over the seeds; None with one.
        p: two-sided. Of NLL: how often random signs of the (seed, direction) differences give a mean as far from 0. Of
            BLEU and chrF++: how often exchanging translations of sentences at random does; None where the rows do not
            have what that needs, or are scored on different text.
    """

    value: float
    error: float | None
    p: float | None


@dataclass(frozen=True)
class SystemResult:
    """One system, or one variant of it.

    Attributes:
        name: ``SYSTEM`` or ``SYSTEM+VARIANT``.
        seeds: seeds that ended well.
        failed: runs that did not.
        by_direction: means by metric (validation NLL [nat a token], BLEU, chrF++) and direction; without a metric that
            nobody measured.
        by_group: the same by group of directions, every direction counting the same; ``all`` is the last group.
        differences: from the system that all are tested against, by metric, and by group and direction; empty for
            that one itself.
        parameters: of the model.
        flops_per_token: of a forward pass.
        requested_capacity: mean of the blocks; None without experts.
        seconds_per_step: median over the log, mean over seeds [s].
        peak_memory: most of all seeds [bytes]: on a GPU if they were trained on one, else of a process on its host.
        on_device: whether that is of a GPU.
        curve: (step, tokens, seconds, validation NLL), means over seeds.
    """

    name: str
    seeds: tuple[int, ...]
    failed: int
    by_direction: Mapping[str, Mapping[str, Mean]]
    by_group: Mapping[str, Mapping[str, Mean]]
    differences: Mapping[str, Mapping[str, Difference]]
    parameters: int
    flops_per_token: float
    requested_capacity: Mean | None
    seconds_per_step: Mean | None
    peak_memory: int | None
    on_device: bool
    curve: tuple[tuple[int, float, float, float], ...]

    def mean(self, metric: str, group: str = ALL) -> Mean | None:
        """That of a metric over a group; None where there is none."""
        return self.by_group.get(metric, {}).get(group)

    def difference(self, metric: str, group: str = ALL) -> Difference | None:
        """That from the other system; None where there is none."""
        return self.differences.get(metric, {}).get(group)


def compare(rows: Sequence[Row], against: str | None, named: Mapping[str, Sequence[str]]) -> list[SystemResult]:
    """The systems of a study, in the order of their first rows.

    Args:
        rows: of the study.
        against: name of the system that all others are tested against; None for no tests.
        named: languages of each group that the study names.
    """
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    base = [row for row in by_name.get(against or "", []) if row.status == "done"]
    single = {name: [name] for name in directions_of(rows)}
    groups = groups_of(rows, named)
    return [_result(name, own, base if name != against else [], single, groups) for name, own in by_name.items()]


def _result(
    name: str,
    rows: Sequence[Row],
    base: Sequence[Row],
    single: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str]],
) -> SystemResult:
    done = [row for row in rows if row.status == "done"]
    first = (done or rows)[0]
    held = [row.device_memory for row in done if row.device_memory]
    on_host = [row.peak_memory for row in done if row.peak_memory]
    return SystemResult(
        name=name,
        seeds=tuple(sorted(row.seed for row in done)),
        failed=len(rows) - len(done),
        by_direction=_means(done, single),
        by_group=_means(done, groups),
        differences=_differences(done, base, {**single, **groups}),
        parameters=first.parameters,
        flops_per_token=first.flops_per_token,
        requested_capacity=Mean.of([row.requested_capacity for row in done if row.requested_capacity is not None]),
        seconds_per_step=Mean.of([row.seconds_per_step for row in done if row.seconds_per_step is not None]),
        peak_memory=max(held or on_host, default=None),
        on_device=bool(held),
        curve=_mean_curve(done),
    )


def values(row: Row, metric: str) -> dict[str, float]:
    """A metric of a run by direction."""
    return dict(row.nll) if metric == "nll" else {name: of[metric] for name, of in row.scores.items()}


def _means(rows: Sequence[Row], groups: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Mean]]:
    found: dict[str, dict[str, Mean]] = {}
    for metric in METRICS:
        for name, directions in groups.items():
            by_seed = [_group_mean(values(row, metric), directions) for row in rows]
            of = Mean.of([value for value in by_seed if value is not None])
            if of is not None:
                found.setdefault(metric, {})[name] = of
    return found


def _group_mean(of: Mapping[str, float], directions: Sequence[str]) -> float | None:
    own = [of[name] for name in directions if name in of]
    return mean(own) if own else None


def _mean_curve(rows: Sequence[Row]) -> tuple[tuple[int, float, float, float], ...]:
    """At the steps that all runs have."""
    by_step: dict[int, list[Sequence[float]]] = {}
    for row in rows:
        for point in row.curve:
            by_step.setdefault(int(point[0]), []).append(point)
    return tuple(
        (step, mean(p[1] for p in points), mean(p[2] for p in points), mean(p[3] for p in points))
        for step, points in sorted(by_step.items())
        if len(points) == len(rows)
    )


def _differences(
    rows: Sequence[Row], base: Sequence[Row], groups: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Difference]]:
    others = {row.seed: row for row in base}
    pairs = [(row, others[row.seed]) for row in rows if row.seed in others]
    tested = _tested(pairs)
    found: dict[str, dict[str, Difference]] = {}
    for metric in METRICS:
        for name, directions in groups.items():
            one = difference(pairs, metric, directions, tested)
            if one is not None:
                found.setdefault(metric, {})[name] = one
    return found


def difference(
    pairs: Sequence[tuple[Row, Row]], metric: str, directions: Sequence[str], tested: Mapping[str, Tested]
) -> Difference | None:
    """How far runs are from those of another system with the same seeds, direction by direction.

    Args:
        pairs: a run of each system, of one seed, ended well.
        metric: one of `METRICS`.
        directions: those to compare; a seed counts with those that both of its runs have.
        tested: trials of BLEU and chrF++ by direction.

    Returns:
        None where there is nothing to compare.
    """
    both = [(values(row, metric), values(other, metric)) for row, other in pairs]
    by_seed = [[own[name] - of[name] for name in directions if name in own and name in of] for own, of in both]
    by_seed = [seed for seed in by_seed if seed]
    total = Mean.of([mean(seed) for seed in by_seed])
    if total is None:
        return None
    if metric == "nll":
        return Difference(total.value, total.error, sign_test([value for seed in by_seed for value in seed]))
    return Difference(total.value, total.error, _p(metric, [name for name in directions if name in both[0][0]], tested))


def _p(metric: str, directions: Sequence[str], tested: Mapping[str, Tested]) -> float | None:
    """Of the mean over directions; None where one of them could not be tested."""
    own = [tested[name] for name in directions if name in tested]
    if not own or len(own) < len(directions):
        return None
    drawn = [getattr(one, f"{metric}_N") for one in own]
    return p_value(mean(getattr(one, metric) for one in own), sum(drawn) / len(drawn))


def _tested(pairs: Sequence[tuple[Row, Row]]) -> dict[str, Tested]:
    """The directions whose translations can be exchanged in all pairs, with the trials of each."""
    found: dict[str, Tested] = {}
    for number, name in enumerate(pairs[0][0].counts if pairs else ()):
        counts = [
            (row.counts[name], other.counts[name])
            for row, other in pairs
            if name in row.counts and name in other.counts
        ]
        first = counts[0][0] if counts else None
        if first and len(counts) == len(pairs) and all(first.comparable(one) for pair in counts for one in pair):
            found[name] = randomised(counts, _TRIALS, seed=number)
    return found


def sign_test(differences: Sequence[float]) -> float:
    """Share of sign patterns whose mean is as far from 0 as that of the differences: two-sided permutation test.

    All patterns of up to 12 differences are tried, else 4,096 drawn ones, always the same. Differences of one seed's
    directions share their weights, so with few seeds the share is too small; the standard error over seeds is the safe
    figure.
    """
    values_D = np.array(differences)
    if len(values_D) <= _EXACT:
        signs_ND = np.array(list(product((1, -1), repeat=len(values_D))))
    else:  # and the signs found, so that p is never 0
        drawn_ND = np.random.default_rng(1).choice((1, -1), (_DRAWS, len(values_D)))
        signs_ND = np.concatenate([drawn_ND, np.ones((1, len(values_D)), drawn_ND.dtype)])
    return float((np.abs(signs_ND @ values_D) >= abs(values_D.sum()) - 1e-12).mean())
