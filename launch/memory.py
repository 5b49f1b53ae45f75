"""Whether the planned memory of a run fits the devices and hosts that a job asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from launch.resources import Resources
from smoe_ds.errors import LaunchError

if TYPE_CHECKING:
    from smoe_ds.config import RunConfig

_GIB = 2**30
_UNITS = {"K": 2**10, "M": 2**20, "G": _GIB, "T": 2**40}


def mem_bytes(text: str) -> int:
    """``--mem`` in bytes; SLURM's unit is MiB where none is written."""
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else int(text) * _UNITS["M"]


def check_memory(config: RunConfig, resources: Resources, gpu_memory: float | None) -> str:
    """Compares what ``smoe-ds plan`` says with what there is.

    Args:
        config: the run.
        resources: what the job asks for.
        gpu_memory: memory of one GPU [GiB]; None: unknown.

    Returns:
        the plan in words.

    Raises:
        LaunchError: it does not fit.
    """
    from smoe_ds.data.manifest import TOKENIZER
    from smoe_ds.data.tokenizer import Tokenizer
    from smoe_ds.planning.paper_tables import VOCAB_SIZE
    from smoe_ds.planning.plan import make_plan

    tokenizer = Path(config.smoe.data.path) / TOKENIZER
    vocab_size = Tokenizer(tokenizer).vocab_size if tokenizer.is_file() else VOCAB_SIZE
    plan = make_plan(config, vocab_size=vocab_size, world_size=resources.tasks)
    device, host = plan.memory["total"], plan.host_memory.get("total", 0)
    if resources.gpus_per_node and gpu_memory is not None and device > gpu_memory * _GIB:
        raise LaunchError(
            f"--gpu-memory {gpu_memory:g}: the plan needs {device / _GIB:.1f} GiB on a GPU; lower "
            "smoe.data.max_tokens, raise smoe.moe.ep_size or use an engine with offload; smoe-ds plan shows what uses "
            "it"
        )
    on_host = (host if resources.gpus_per_node else host + device) * resources.tasks_per_node
    if resources.mem is not None and 0 < mem_bytes(resources.mem) < on_host:
        raise LaunchError(
            f"--mem {resources.mem}: the plan needs {on_host / _GIB:.1f} GiB on a node, Python and its libraries not "
            "counted; ask for more"
        )
    place = "a GPU" if resources.gpus_per_node else "a rank"
    words = f"planned memory: {device / _GIB:.2f} GiB on {place}"
    return f"{words}, {on_host / _GIB:.2f} GiB on a host" if host else words
