"""How experts are computed: which ways there are, and which one is taken; a rule over plain facts, no torch.

The layer asks it with what it finds (:mod:`smoe_ds.moe.expert_backend_here`), the memory plan with what it assumes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

BACKENDS = ("auto", "loop", "lean", "grouped")
ROW_BYTES = 16
"""What the bytes of a row must be a multiple of in grouped matrix products."""
_ITEMSIZE = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_FAST_FROM = (9, 0)


@dataclass(frozen=True)
class Accelerator:
    """What experts are computed on.

    Attributes:
        kind: ``cuda`` or ``cpu``.
        capability: compute capability of a CUDA device, e.g. ``(7, 0)`` for a V100.
    """

    kind: str
    capability: tuple[int, int] | None = None

    def has_fast_grouped_mm(self, dtype: str) -> bool:
        """Whether torch has a fast kernel: bfloat16 on compute capability 9.0; elsewhere it loops inside, as we do."""
        return self.kind == "cuda" and dtype == "bfloat16" and (self.capability or (0, 0)) >= _FAST_FROM


def no_problem() -> None:
    """Nothing speaks against it."""


def choose_backend(
    setting: str,
    accelerator: Accelerator,
    dtype: str,
    *,
    ep_size: int,
    widths: tuple[int, int],
    uneven: bool = False,
    unusual: str | None = None,
    grouped_problem: Callable[[], str | None] = no_problem,
) -> str:
    """``loop``, ``lean`` or ``grouped`` for a layer's experts.

    The choice follows from experts, ranks, device and dtype, never from a clock: the ways round differently, and a run
    has to be repeatable.

    Args:
        setting: ``loop``: one expert after the other, any module, the reference. ``lean``: the same with the built-in
            experts' rows and outputs not kept for the backward pass, see :mod:`smoe_ds.moe.experts_lean`. ``grouped``:
            grouped matrix products, see :mod:`smoe_ds.moe.experts_grouped`. ``auto``: grouped where the device has a
            fast kernel, else lean, else loop.
        accelerator: where the rows are.
        dtype: of the rows, e.g. ``bfloat16``.
        ep_size: ranks that share the experts.
        widths: D and F.
        uneven: whether experts differ in width.
        unusual: why the experts, or what is around them, are not what lean and grouped products know; None if they are.
        grouped_problem: says why grouped products do not work here, None if they do; asked only where it matters.

    Raises:
        ValueError: the setting cannot work here; says why.
    """
    if setting == "loop":
        return "loop"

    def problem_of(backend: str) -> str | None:
        if unusual or backend == "lean":
            return unusual or ("the experts are spread over ranks" if ep_size > 1 else None)
        if uneven:
            return "the experts differ in width"
        if any(width * _ITEMSIZE[dtype] % ROW_BYTES for width in widths):
            return f"d_model and d_ffn must be multiples of {ROW_BYTES // _ITEMSIZE[dtype]}"
        return grouped_problem()

    if setting != "auto":
        if problem := problem_of(setting):
            where = f"{dtype} on {accelerator.kind}"
            raise ValueError(f"expert_backend {setting!r} does not work for {where}: {problem}; use 'loop'")
        return setting
    wanted = ["grouped", "lean"] if accelerator.has_fast_grouped_mm(dtype) else ["lean"]
    return next((backend for backend in wanted if problem_of(backend) is None), "loop")
