"""The tables of smoe_ds/scaling/README.md: ``python -m smoe_ds.report.scaling_table ds_configs`` prints their Markdown.

The three recipes of the paper on 8 to 1,024 GPUs of two kinds, each with the faster of two expert-parallel sizes.
Beyond the published batch every GPU gets one micro-batch, so the batch grows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smoe_ds.config import load_run
from smoe_ds.planning.paper_tables import VOCAB_SIZE
from smoe_ds.scaling.collectives import Topology
from smoe_ds.scaling.constants import Constants, choose_constants
from smoe_ds.scaling.predict import Prediction, predict

RECIPES = {"M4": "m4", "M15": "m15", "OPUS-100": "opus100"}
GPUS = (8, 16, 32, 64, 128, 256, 512, 1024)
PER_NODE = 8
EP_SIZES = (1, 4)


@dataclass(frozen=True)
class Cluster:
    """A kind of cluster.

    Attributes:
        device: its GPU.
        engine: the shipped engine for it.
        precision: of that engine.
        link: between hosts.
        ports: of a host.
    """

    device: str
    engine: str
    precision: str
    link: str
    ports: int

    def constants(self) -> Constants:
        """Published peaks and assumed efficiencies."""
        return choose_constants(self.precision, file=None, device=self.device, interconnect=self.link, ports=self.ports)


CLUSTERS = (
    Cluster("v100", "v100_fp16_zero1", "fp16", "ib-edr", 4),
    Cluster("h200", "h200_bf16_zero1", "bf16", "ib-ndr", 8),
)


def fastest(configs: Path, recipe: str, cluster: Cluster, gpus: int) -> Prediction:
    """A recipe on so many GPUs, with the expert-parallel size that is faster."""
    found = []
    for ep_size in EP_SIZES:
        overrides = [f"extends=engine/{cluster.engine}.json", f"smoe.moe.ep_size={ep_size}"]
        run = load_run(configs / f"{recipe}.json", overrides)
        micro_batches = 1 if gpus > run.train_batch_size else None
        vocab_size = run.smoe.data.vocab_size or VOCAB_SIZE
        topology = Topology(gpus // PER_NODE, PER_NODE)
        found.append(predict(run, vocab_size, cluster.constants(), topology, micro_batches=micro_batches))
    return min(found, key=lambda one: one.step.seconds)


COLUMNS = ("GPUs", "batch", "step (ms)", "M tokens/s", "efficiency", "`ep_size`")


def row(one: Prediction) -> list[str]:
    """One prediction in the order of ``COLUMNS``; the batch is in micro-batches."""
    return [
        f"{one.gpus:,}",
        f"{one.train_batch_size:,}",
        f"{1e3 * one.step.seconds:.0f}",
        f"{one.step.tokens_per_second / 1e6:.2f}",
        f"{one.efficiency:.2f}",
        str(one.ep_size),
    ]


def markdown(configs: Path) -> Iterator[str]:
    """The lines of the tables: one table for each cluster and recipe, under a heading of its own."""
    for cluster in CLUSTERS:
        for name, recipe in RECIPES.items():
            yield f"### {name} on {cluster.device.upper()}, {cluster.ports} x {cluster.link} a host"
            yield ""
            yield f"| {' | '.join(COLUMNS)} |"
            yield "|" + "---:|" * len(COLUMNS)
            for gpus in GPUS:
                yield f"| {' | '.join(row(fastest(configs, recipe, cluster, gpus)))} |"
            yield ""


if __name__ == "__main__":
    print("\n".join(markdown(Path(sys.argv[1]))))
