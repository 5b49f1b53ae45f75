"""The time of an optimizer step on a given number of devices, part by part, in closed form.

Ranks wait for each other at every exchange, so each stratum takes as long as on its busiest rank, which is known from
the placement of the experts. Not in it: noise of machines and networks, links shared with other jobs, batches that are
not full, routing more uneven than uniform.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from smoe_ds.config.run import RunConfig
from smoe_ds.moe.loads import StratumLoad
from smoe_ds.planning.memory import DEFAULT_BUCKET
from smoe_ds.planning.work import GRADIENT_TOUCHES, ITEMSIZE, PASSES, ROW_TOUCHES, Work
from smoe_ds.scaling.collectives import (
    Topology,
    all_gather_seconds,
    all_reduce_seconds,
    all_to_all_seconds,
    exchange_of,
    expert_data_group,
    whole_group,
)
from smoe_ds.scaling.constants import Constants

FORWARD = 1 / PASSES
"""Part of the time of forward and backward that is the forward pass's."""
EXCHANGE_TOUCHES = 16
"""Times that a row which travels is read or written at both ends, forward and backward."""
SMALL_SUMS = 4
"""Small sums over all ranks in a step: whether to go on, overflow, gradient norm, and one more per group of experts."""
PARTS = {
    "dense": ("dense",),
    "experts": ("expert",),
    "routing": ("routing", "memory"),
    "exchange": ("all_to_all",),
    "reduction": ("all_reduce", "memory"),
    "expert_reduction": ("all_reduce", "memory"),
    "gather": ("all_reduce",),
    "optimizer": ("update",),
    "offload": ("transfer",),
    "data": ("read", "draw"),
    "other": ("all_reduce",),
}
"""The parts of a step, and the constants that each depends on; ``all_...`` stands for the links in use."""


@dataclass(frozen=True)
class StratumExchange:
    """The exchange of one stratum, all blocks and micro-batches of a step.

    Attributes:
        forward: seconds of the forward pass that nothing else hides.
        backward: the same of the backward pass.
        sent_bytes: what a rank sends, mean of the ranks.
    """

    forward: float
    backward: float
    sent_bytes: float


@dataclass(frozen=True)
class StepTime:
    """One step, one rank.

    Attributes:
        parts: seconds by part, see :data:`PARTS`.
        exchange: of each stratum; together they are the part ``exchange``.
        hidden_reduction: seconds of the gradient reduction that run beside the backward pass.
        tokens: tokens of a step, all ranks, padding not counted.
    """

    parts: dict[str, float]
    exchange: tuple[StratumExchange, ...]
    hidden_reduction: float
    tokens: float

    @property
    def seconds(self) -> float:
        """The step's time."""
        return sum(self.parts.values())

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all ranks per second, padding not counted."""
        return self.tokens / self.seconds

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": self.seconds, "tokens_per_second": self.tokens_per_second}


def step_time(run: RunConfig, work: Work, constants: Constants, topology: Topology) -> StepTime:
    """Predicts a step.

    Args:
        run: checked configuration, which can be spread over so many ranks.
        work: of one of its ranks.
        constants: of the device and its links.
        topology: hosts and devices.

    Raises:
        ConfigError: a constant that is needed is not known.
    """
    accumulation = work.micro_batches / topology.ranks
    computed = accumulation * work.passes
    again = 1 + FORWARD * (work.forwards - 1)  # the layers' forward passes are computed a second time
    dense = again * constants.line("dense").seconds(PASSES * work.dense_flops, work.sublayers)
    experts = [again * work.blocks * _expert_seconds(work, stratum, constants) for stratum in work.strata]
    routing = [again * work.blocks * _routing_seconds(work, stratum, constants) for stratum in work.strata]
    exchange = [
        _stratum_exchange(run, work, stratum, constants, topology, seconds, computed)
        for stratum, seconds in zip(work.strata, experts, strict=True)
    ]
    computing = work.passes * (dense + sum(experts) + sum(routing))
    backward = computing * (1 - FORWARD) + sum(one.backward for one in exchange) / accumulation
    reductions, hidden = _reductions(run, work, constants, topology, backward, accumulation)
    parts = {
        "dense": computed * dense,
        "experts": computed * sum(experts),
        "routing": computed * sum(routing),
        "exchange": sum(one.forward + one.backward for one in exchange),
        **reductions,
        **_update(run, work, constants, topology, accumulation),
        "other": _small_sums(run, work, constants, topology, accumulation),
    }
    parts["data"] = _data_seconds(run, work, constants, accumulation, sum(parts.values()))
    return StepTime({name: parts[name] for name in PARTS}, tuple(exchange), hidden, work.micro_batches * work.tokens)


def measured_parts(constants: Constants, step: StepTime) -> dict[str, bool]:
    """Which parts rest on measured constants alone; those that take no time are left out."""
    return {name: _is_measured(constants, name) for name, seconds in step.parts.items() if seconds}


def _is_measured(constants: Constants, part: str) -> bool:
    kinds = [kind for kind in constants.lines for needed in PARTS[part] if kind == needed or _is_link(kind, needed)]
    return bool(kinds) and constants.measured(*kinds)


def _is_link(kind: str, needed: str) -> bool:
    return needed.startswith("all_") and kind.startswith(f"{needed}_")


def _expert_seconds(work: Work, stratum: StratumLoad, constants: Constants) -> float:
    """Forward and backward on the busiest rank, one block."""
    flops = PASSES * stratum.busiest_rows * work.flops_per_row
    return constants.line("expert").seconds(flops, stratum.busiest_experts)


def _routing_seconds(work: Work, stratum: StratumLoad, constants: Constants) -> float:
    """Gate, choice and the way of the rows on their own rank, forward and backward, one block."""
    own = constants.line("routing").seconds(ROW_TOUCHES * stratum.rows * work.row_bytes)
    travelling = EXCHANGE_TOUCHES * stratum.busiest_sent_rows * work.row_bytes
    return own + constants.line("memory").seconds(travelling, 1 if travelling else 0)


def _stratum_exchange(
    run: RunConfig,
    work: Work,
    stratum: StratumLoad,
    constants: Constants,
    topology: Topology,
    experts: float,
    times: float,
) -> StratumExchange:
    """All blocks, a whole step, in which each exchange takes place so many times. In chunks, experts work on one while
    others travel: only the longer of both shows, but for the first chunk, which nothing can hide, and the last."""
    exchange = exchange_of(topology, run.smoe.moe.ep_size)
    chunks = run.smoe.moe.exchange_chunks
    size = 2 * stratum.busiest_sent_rows * work.row_bytes
    travel = work.blocks * all_to_all_seconds(constants, exchange, size, 2 * chunks)
    counts = work.blocks * all_to_all_seconds(constants, exchange, 0.0)

    def shown(computing: float) -> float:
        return travel / chunks + (1 - 1 / chunks) * max(travel - computing, 0.0)

    return StratumExchange(
        forward=times * work.forwards * (counts + shown(experts * FORWARD)),
        backward=times * shown(experts * (1 - FORWARD)),
        sent_bytes=times * work.blocks * stratum.exchanged_bytes(work.row_bytes, work.forwards),
    )


def reduced_bytes(run: RunConfig, work: Work, topology: Topology) -> dict[str, float]:
    """Bytes of gradients that a rank hands to sums over several ranks in a step: dense ones and experts'.

    ZeRO 2 sums the gradients of every micro-batch, the other stages once a step. DeepSpeed sums them over all holders,
    and each keeps its share.
    """
    accumulation = work.micro_batches / topology.ranks
    times = accumulation if run.zero_stage == 2 else 1
    itemsize = ITEMSIZE[str(run.deepspeed.get("communication_data_type") or run.precision)]
    holders = expert_data_group(topology, run.smoe.moe.ep_size).size
    return {
        "reduction": times * itemsize * work.dense_parameters * (topology.ranks > 1),
        "expert_reduction": times * itemsize * work.expert_parameters * (holders > 1),
    }


def _reductions(
    run: RunConfig, work: Work, constants: Constants, topology: Topology, backward: float, accumulation: float
) -> tuple[dict[str, float], float]:
    """Seconds of the reductions that show, and those that run beside the backward pass."""
    zero = run.deepspeed["zero_optimization"]
    times = accumulation if run.zero_stage == 2 else 1
    bucket = float(zero.get("reduce_bucket_size") or DEFAULT_BUCKET)
    groups = {
        "reduction": (whole_group(topology), work.dense_parameters),
        "expert_reduction": (expert_data_group(topology, run.smoe.moe.ep_size), work.expert_parameters),
    }
    sizes = reduced_bytes(run, work, topology)
    seconds, last = {}, 0.0
    for name, (group, elements) in groups.items():
        buckets = max(1.0, -(-elements // bucket))
        travel = all_reduce_seconds(constants, group, sizes[name], times * buckets) if sizes[name] else 0.0
        copies = times * GRADIENT_TOUCHES * work.itemsize * elements
        seconds[name] = travel + constants.line("memory").seconds(copies, times if copies else 0)
        last = max(last, seconds[name] / times / buckets)
    beside = run.zero_stage > 0 and bool(zero.get("overlap_comm")) and constants.accelerator == "cuda"
    whole = sum(seconds.values())
    hidden = min(max(whole - times * last, 0.0), times * backward) if beside else 0.0
    shown = 1 - hidden / whole if whole else 1.0
    return {name: shown * value for name, value in seconds.items()}, hidden


def _update(
    run: RunConfig, work: Work, constants: Constants, topology: Topology, accumulation: float
) -> dict[str, float]:
    """Adam on this rank's share, the way to the host and back where it is offloaded, and the gathering of weights."""
    expert_group = expert_data_group(topology, run.smoe.moe.ep_size)
    share: float = work.dense_parameters + work.expert_parameters
    gather = 0.0
    if run.zero_stage:
        share = work.dense_parameters / topology.ranks + work.expert_parameters / expert_group.size
        for group, elements in ((whole_group(topology), work.dense_parameters), (expert_group, work.expert_parameters)):
            if group.size > 1 and elements:
                gather += all_gather_seconds(constants, group, work.itemsize * elements)
    offload = run.deepspeed["zero_optimization"].get("offload_optimizer") or {}
    if offload.get("device", "none") == "none":
        return {"gather": gather, "optimizer": constants.line("update").seconds(share), "offload": 0.0}
    # Gradients go down after every micro-batch, and come up again to be added to those of the next; weights go up.
    moved = 2 * accumulation * work.itemsize * share
    return {
        "gather": gather,
        "optimizer": constants.line("host_update").seconds(share),
        "offload": constants.line("transfer").seconds(moved, 2 * accumulation),
    }


def _small_sums(run: RunConfig, work: Work, constants: Constants, topology: Topology, accumulation: float) -> float:
    """Sums over all ranks whose size does not matter: the balance loss of each micro-batch, and those of a step."""
    if topology.ranks == 1:
        return 0.0
    over_ranks = bool(work.strata) and run.smoe.moe.load_balancing_batch == "global"
    calls = SMALL_SUMS + (run.smoe.moe.ep_size > 1) + (accumulation if over_ranks else 0)
    return all_reduce_seconds(constants, whole_group(topology), 0.0, calls)


def _data_seconds(run: RunConfig, work: Work, constants: Constants, accumulation: float, rest: float) -> float:
    """Seconds that a step waits for data: beside the rest of the step, with a thread and a core for it, else before."""
    read = constants.line("read").seconds(accumulation * work.tokens)
    draw = constants.line("draw").seconds(work.micro_batches * work.tokens)
    if run.smoe.data.prefetch_steps and constants.spare_core:
        return max(0.0, read + draw - rest)
    return read + draw


def one_device(run: RunConfig) -> RunConfig:
    """The run with all experts on one device."""
    moe = run.smoe.moe.model_copy(update={"ep_size": 1})
    return replace(run, smoe=run.smoe.model_copy(update={"moe": moe}))
