"""Measures all constants of the present devices and links at once, on every rank of a run."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from smoe_ds.config.run import RunConfig
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.manifest import TOKENIZER
from smoe_ds.errors import LaunchError
from smoe_ds.parallel.cores import cores_here
from smoe_ds.parallel.env import Env
from smoe_ds.planning.plan import make_plan
from smoe_ds.scaling.calibrate import SENTENCE, Calibration
from smoe_ds.scaling.calibrate_data import DataFigures, measure_data
from smoe_ds.scaling.calibrate_links import measure_links
from smoe_ds.scaling.collectives import Topology
from smoe_ds.scaling.constants import Constants
from smoe_ds.scaling.predict import model_shape
from smoe_ds.weights.weights_folder import versions


@dataclass(frozen=True)
class Place:
    """Where is measured.

    Attributes:
        device: of this rank.
        topology: hosts, and ranks of each.
        cores: processor cores that the ranks of its host may use.
        threads: threads that PyTorch computes with.
    """

    device: torch.device
    topology: Topology
    cores: int
    threads: int

    @property
    def spare_core(self) -> bool:
        """Whether every rank has a core left over to prepare data on."""
        busy = 1 if self.device.type == "cuda" else self.threads
        return self.cores >= self.topology.per_node * (busy + 1)


def place_of(env: Env, device: torch.device) -> Place:
    """Where this rank is.

    Raises:
        LaunchError: hosts have unlike numbers of ranks.
    """
    if env.world_size % env.local_world_size:
        raise LaunchError(
            f"{env.world_size} ranks, {env.local_world_size} of them here: hosts with different numbers of ranks "
            "have no constants in common; start the same number on each"
        )
    topology = Topology(env.world_size // env.local_world_size, env.local_world_size)
    return Place(device, topology, cores_here().together, torch.get_num_threads())


def measure_constants(
    run: RunConfig, vocab_size: int, place: Place, *, repeats: int, say: Callable[[str], None]
) -> Constants:
    """All constants of a run's modules, data and links. A collective.

    Args:
        run: checked configuration.
        vocab_size: V.
        place: where this rank is.
        repeats: readings of each.
        say: hears what is measured next.
    """
    say("data")
    data = _data_figures(run)
    parameters = make_plan(run, vocab_size=vocab_size).parameters_per_device // place.topology.ranks
    sentence = SENTENCE if data is None else data.sentence
    calibration = Calibration(run, vocab_size, place.device, repeats=repeats, sentence=sentence)
    say(f"computation in {run.precision} on {place.device.type}")
    lines = calibration.measure(parameters) | ({} if data is None else data.constants)
    if place.topology.ranks > 1:
        say("links")
        lines |= measure_links(place.topology, place.device, repeats)
    name, memory = _hardware(place.device)
    return Constants(
        device=name,
        accelerator=place.device.type,
        precision=run.precision,
        lines=lines,
        memory_bytes=memory,
        spare_core=place.spare_core,
        padded_share=1.0 if data is None else data.padded_share,
        real_share=1.0 if data is None else data.real_share,
        circumstances=_circumstances(run, vocab_size, place),
    )


def _data_figures(run: RunConfig) -> DataFigures | None:
    """What the corpus gives; None where it is not prepared. On all ranks alike, since all have to see the corpus."""
    folder = Path(run.smoe.data.path)
    return measure_data(run, Corpus(folder, verify=False)) if (folder / TOKENIZER).is_file() else None


def _hardware(device: torch.device) -> tuple[str, int | None]:
    """Name and memory of a device; a processor shares the host's memory, which is not its own."""
    if device.type != "cuda":
        return _processor(), None
    return torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory


def _circumstances(run: RunConfig, vocab_size: int, place: Place) -> dict[str, Any]:
    return {
        "hosts": place.topology.nodes,
        "ranks_per_host": place.topology.per_node,
        "cores": place.cores,
        "threads": place.threads,
        "model": model_shape(run, vocab_size),
        "versions": {"python": platform.python_version(), **versions()},
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    """The processor's name, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "cpu"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
