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


def cooldown_factor(step: int, last_step: int, cooldown_steps: int) -> float:
    """What the learning rate is multiplied by: 1, and over the last steps of a run a straight line towards 0.

    Args:
        step: number of the optimizer step, from 1.
        last_step: of the run; it still learns, with a factor of 1 / (cooldown_steps + 1).
        cooldown_steps: steps at the end with a factor below 1; 0: none.

    Source: Hägele et al., arXiv 2405.18392: weights settle in the end, which a longer run does for its last steps only.
    """
    return min(1.0, max(last_step + 1 - step, 0) / (cooldown_steps + 1)) if cooldown_steps else 1.0
