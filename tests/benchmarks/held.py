"""Bytes that the tensors of a ZeRO engine hold, by kind and by the memory they lie in: the device's or the host's.

On a CPU both are the same memory. Where a tensor would lie on a machine with a GPU follows from DeepSpeed's code: with
offload ZeRO makes what it keeps of the optimizer for the host (``self.device``), all else for the accelerator.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch

Held = dict[str, dict[str, int]]  # memory -> kind -> bytes


def live_bytes() -> int:
    """Bytes of all tensors that anything in this process holds."""
    gc.collect()
    storages = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some objects complain when they are looked at
        for thing in gc.get_objects():
            if isinstance(thing, torch.Tensor):
                storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(storages.values())


def held(engine: Any) -> Held:
    """Bytes by memory ("device", "host") and kind; a storage that two kinds share counts for the first.

    Args:
        engine: a DeepSpeed engine at ZeRO stage 1 or 2.
    """
    zero = engine.optimizer
    state = "host" if zero.cpu_offload else "device"
    kinds: list[tuple[str, str, Iterable[Any]]] = [
        ("device", "weights", [zero.bit16_groups_flat, list(engine.module.parameters())]),
        ("device", "gradients", _gradients(engine)),
        ("device", "reduction", [bucket.buffer for bucket in zero.ipg_buckets.values()]),
        ("device", "copies", [getattr(zero, "temp_grad_buffer_for_gpu_offload", None)]),
        (state, "master_weights", zero.single_partition_of_fp32_groups),
        (state, "optimizer", [list(values.values()) for values in zero.optimizer.state.values()]),
        (state, "fp32_gradients", [partition.grad for partition in zero.single_partition_of_fp32_groups]),
        (state, "accumulation", list(getattr(zero, "accumulated_grads_in_cpu", {}).values())),
        (state, "copies", _host_copies(zero)),
    ]
    seen: set[int] = set()
    found: Held = {"device": {}, "host": {}}
    for memory, kind, things in kinds:
        size = 0
        for tensor in _tensors(things):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                size += storage.nbytes()
        found[memory][kind] = found[memory].get(kind, 0) + size
    return found


def _gradients(engine: Any) -> list[Any]:
    zero = engine.optimizer
    of_parameters = [[p.grad, getattr(p, "grad_accum", None)] for p in engine.module.parameters()]
    return [of_parameters, list(zero.averaged_gradients.values()), list(zero.all_grad_tensors.values())]


def _host_copies(zero: Any) -> list[Any]:
    """What travels: 16-bit weights to the device, gradients from it."""
    names = ("param_buffer_of_bit16_for_cpu_offload_groups", "temp_grad_buffer_for_cpu_offload")
    return [getattr(zero, name, None) for name in names]


def _tensors(thing: Any) -> Iterator[torch.Tensor]:
    if isinstance(thing, torch.Tensor):
        yield thing
    elif isinstance(thing, list | tuple):
        for part in thing:
            yield from _tensors(part)
