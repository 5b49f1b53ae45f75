"""A run on more and more devices: time, throughput, efficiency and memory for each number of hosts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from smoe_ds.config.checks import check_world
from smoe_ds.config.run import RunConfig
from smoe_ds.errors import ConfigError
from smoe_ds.planning.plan import make_plan
from smoe_ds.planning.work import work_of
from smoe_ds.scaling.collectives import Topology
from smoe_ds.scaling.constants import Constants
from smoe_ds.scaling.step_time import StepTime, measured_parts, one_device, step_time


@dataclass(frozen=True)
class Prediction:
    """A run on one number of devices.

    Attributes:
        nodes: hosts.
        gpus_per_node: devices of a host.
        train_batch_size: micro-batches of a step.
        ep_size: ranks that share the experts.
        step: its time, part by part.
        measured: whether a part rests on measured constants alone, by part.
        efficiency: throughput over that of one device with the same batch, all experts on it, times the devices.
        memory: bytes of a device at the peak.
        fits: whether they fit; None where the device's memory is not known.
    """

    nodes: int
    gpus_per_node: int
    train_batch_size: int
    ep_size: int
    step: StepTime
    measured: dict[str, bool]
    efficiency: float
    memory: int
    fits: bool | None

    @property
    def gpus(self) -> int:
        """All devices."""
        return self.nodes * self.gpus_per_node

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "gpus": self.gpus, "step": self.step.as_json()}


def predict(
    run: RunConfig,
    vocab_size: int,
    constants: Constants,
    topology: Topology,
    *,
    micro_batches: int | None = None,
    requested_capacity: float | None = None,
) -> Prediction:
    """The run on the devices of a topology.

    Args:
        run: checked configuration.
        vocab_size: V.
        constants: of the device and its links.
        topology: hosts and devices.
        micro_batches: of each device in a step; the batch grows with the devices. None: the run's batch.
        requested_capacity: where it was measured.

    Raises:
        ConfigError: the run cannot be spread over so many devices, or a constant that is needed is not known.
    """
    if micro_batches is not None:
        run = replace(run, deepspeed={**run.deepspeed, "train_batch_size": micro_batches * topology.ranks})
    check_world(run, topology.ranks)
    _check_constants(run, constants)
    plan = make_plan(run, vocab_size=vocab_size, world_size=topology.ranks, accelerator=constants.computed_on)

    def step(run: RunConfig, topology: Topology) -> StepTime:
        work = work_of(
            run,
            vocab_size,
            padded_share=constants.padded_share,
            real_share=constants.real_share,
            requested_capacity=requested_capacity,
        )
        return step_time(run, work, constants, topology)

    found, alone = step(run, topology), step(one_device(run), Topology(1, 1))
    memory = plan.memory["total"]
    return Prediction(
        nodes=topology.nodes,
        gpus_per_node=topology.per_node,
        train_batch_size=run.train_batch_size,
        ep_size=run.smoe.moe.ep_size,
        step=found,
        measured=measured_parts(constants, found),
        efficiency=alone.seconds / (topology.ranks * found.seconds),
        memory=memory,
        fits=None if constants.memory_bytes is None else memory <= constants.memory_bytes,
    )


def predict_all(
    run: RunConfig, vocab_size: int, constants: Constants, topologies: Sequence[Topology], **settings: Any
) -> list[Prediction | tuple[Topology, str]]:
    """The run on each topology; where it cannot be, the topology and why not."""
    found: list[Prediction | tuple[Topology, str]] = []
    for topology in topologies:
        try:
            found.append(predict(run, vocab_size, constants, topology, **settings))
        except ConfigError as error:
            found.append((topology, str(error)))
    return found


def _check_constants(run: RunConfig, constants: Constants) -> None:
    """Rates of one precision say nothing about another."""
    if constants.precision != run.precision:
        raise ConfigError(
            f"{run.source}: runs in {run.precision}, the constants of {constants.device} are of {constants.precision}; "
            "calibrate with this run, or swap the engine (--set extends=engine/...)"
        )


def constants_warnings(run: RunConfig, constants: Constants, topology: Topology, vocab_size: int) -> list[str]:
    """What in measured constants is unlike the run that is planned with them."""
    here = constants.circumstances
    if not here:
        return []
    warnings = []
    shape, own = here.get("model", {}), model_shape(run, vocab_size)
    unlike = [f"{name} {shape.get(name)} (here {value})" for name, value in own.items() if shape.get(name) != value]
    if unlike:
        warnings.append(f"the constants were measured with {', '.join(unlike)}: rates differ with the sizes")
    ranks = here.get("ranks_per_host")
    if constants.accelerator == "cpu" and ranks != topology.per_node:
        warnings.append(
            f"the constants were measured with {ranks} ranks on {here.get('cores')} cores, the plan has "
            f"{topology.per_node} a host: ranks that share cores slow each other down; calibrate with as many"
        )
    return warnings


def model_shape(run: RunConfig, vocab_size: int) -> dict[str, Any]:
    """What rates depend on, of a run's model."""
    model = run.smoe.model
    return {
        "d_model": model.d_model,
        "d_ffn": model.d_ffn,
        "num_heads": model.num_heads,
        "activation": model.activation,
        "vocab_size": vocab_size,
    }
