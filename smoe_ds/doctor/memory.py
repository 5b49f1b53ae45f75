"""Whether what the plan needs fits the memory of the GPU and of the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, NOTE, OK, Finding
from smoe_ds.doctor.host_memory import Limit, memory_limits

_TIGHT = 0.85  # of what is free: the plan's peak is right to 15 %
_LESS = "lower smoe.data.max_tokens, raise smoe.moe.ep_size"


def check_memory(context: Context) -> Iterator[Finding]:
    """The plan's peak per device against free GPU memory, and all ranks of a host against its memory."""
    plan, on_cpu = context.plan, context.device.type == "cpu"
    if not on_cpu:
        yield gpu_finding(plan.memory["total"], *_gpu_memory(context))
    if context.meeting.first_on_host:
        planned = plan.host_memory.get("total", 0) + (plan.memory["total"] if on_cpu else 0)
        limits = memory_limits(context.environ)
        yield host_finding(planned, _own_memory(), context.env.local_world_size, limits)


def gpu_finding(need: float, free: float, total: float) -> Finding:
    """What the plan needs of a GPU against what is there [bytes]."""
    figures = {"need": need, "free": free, "total": total}
    if need > total:
        return Finding(
            FAILED,
            "needs {need:bytes} on a GPU that has {total:bytes}",
            f"{_LESS}, set smoe.train.activation_checkpointing, or take engine/v100_fp16_zero2_offload.json; smoe-ds "
            "plan shows what uses it",
            figures,
        )
    if need > free:
        return Finding(
            FAILED,
            "needs {need:bytes} on a GPU, {free:bytes} of {total:bytes} are free",
            "other processes use the rest: see nvidia-smi, end them or use other GPUs",
            figures,
        )
    if need > _TIGHT * free:
        return Finding(
            NOTE,
            "needs {need:bytes} on a GPU, {free:bytes} are free: less of a margin than the plan's possible error",
            f"if it runs out of memory, {_LESS} or set smoe.train.activation_checkpointing",
            figures,
        )
    return Finding(OK, "needs {need:bytes} on a GPU, {free:bytes} of {total:bytes} are free", figures=figures)


def host_finding(planned: float, own: float, ranks: int, limits: Sequence[Limit]) -> Finding:
    """What all ranks of a host need against the tightest of its limits.

    Args:
        planned: model, optimizer and activations of one rank there [bytes].
        own: what a rank takes before that: Python and its libraries [bytes].
        ranks: of this host.
        limits: the tightest first.
    """
    limit = limits[0]
    need = ranks * (planned + own)
    free = limit.free if limit.empty else limit.free + ranks * own  # these ranks have taken theirs already
    figures = {"need": need, "planned": planned, "own": own, "free": free}
    parts = f"{{planned:bytes}} planned and {{own:bytes}} of libraries{f' for each of {ranks} ranks' * (ranks > 1)}"
    text = f"needs {{need:bytes}} on the host ({parts}), {{free:bytes}} {limit.whose} are free"
    if need > free:
        remedy = f"start fewer ranks a host, {_LESS}, or ask for more memory (--mem)"
        return Finding(FAILED, text, remedy, figures, scope="host")
    if need > _TIGHT * free:
        return Finding(NOTE, f"{text}: little room", f"if it is killed, {_LESS}", figures, scope="host")
    return Finding(OK, text, figures=figures, scope="host")


def _gpu_memory(context: Context) -> tuple[float, float]:
    import torch

    free, total = torch.cuda.mem_get_info(context.device)
    return free + torch.cuda.memory_reserved(context.device), total


def _own_memory() -> float:
    """What this process takes now, with its libraries loaded [bytes]."""
    import psutil

    return float(psutil.Process().memory_info().rss)
