"""The learning rate of a step, as a pure function: nothing to save, nothing to restore."""

from __future__ import annotations

import math


def inverse_sqrt_lr(step: int, peak_lr: float, warmup_steps: int, warmup_init_lr: float) -> float:
    """Linear warm-up to the peak, then decay with the inverse square root of the step.

    Args:
        step: number of the optimizer step, from 1.
        peak_lr: learning rate at step ``warmup_steps``.
        warmup_steps: length of the warm-up; 0 starts at the peak.
        warmup_init_lr: where the warm-up starts (at step 0, which is never taken).

    Source: Vaswani et al. (2017), 5.3, with a free peak instead of a power of D; the paper's recipes.
    """
    if step < warmup_steps:
        return warmup_init_lr + (peak_lr - warmup_init_lr) * step / warmup_steps
    return peak_lr * math.sqrt(max(warmup_steps, 1) / step)
