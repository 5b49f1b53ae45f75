"""Rules between sections: what cannot work, or what DeepSpeed silently computes wrongly; each with the remedy."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_ds.config.deepspeed_sections import DeepSpeedSections
from smoe_ds.config.problems import Problem
from smoe_ds.config.run import RunConfig
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.errors import ConfigError


def engine_problems(engine: DeepSpeedSections) -> Iterator[Problem]:
    """Problems among DeepSpeed's keys alone. Each was seen by running DeepSpeed 0.19.8."""
    zero = engine.zero_optimization
    if zero.stage == 3:
        yield Problem(
            ("zero_optimization", "stage"),
            "3 does not work with mixture-of-experts layers, and checkpoints here cover stages 0 to 2 only; set 1 or 2",
        )
    if engine.fp16.enabled and engine.bf16.enabled:
        yield Problem(
            ("bf16", "enabled"), "fp16 and bf16 are both on; switch one off (fp16 for V100, bf16 for A100 and later)"
        )
    if engine.fp16.enabled and zero.stage == 0:
        yield Problem(
            ("zero_optimization", "stage"),
            "0 with fp16: DeepSpeed divides by a loss scale it never applied, so updates vanish; set stage to 1 or 2",
        )
    if zero.offload_optimizer is not None and zero.offload_optimizer.device != "none" and zero.stage == 0:
        yield Problem(
            ("zero_optimization", "offload_optimizer"),
            "would be ignored in stage 0, where nothing is offloaded; set zero_optimization.stage to 1 or 2",
        )


def cross_problems(engine: DeepSpeedSections, smoe: SmoeConfig) -> Iterator[Problem]:
    """Problems between DeepSpeed's keys and ours."""
    if not smoe.moe.is_dense:
        yield from _expert_problems(engine, smoe)
    if smoe.train.warmup_init_lr > engine.optimizer.params.lr:
        yield Problem(
            ("smoe", "train", "warmup_init_lr"),
            f"{smoe.train.warmup_init_lr:g} is above the peak, optimizer.params.lr {engine.optimizer.params.lr:g}; "
            "lower it",
        )


def _expert_problems(engine: DeepSpeedSections, smoe: SmoeConfig) -> Iterator[Problem]:
    zero = engine.zero_optimization
    if zero.contiguous_gradients is False and zero.stage in (1, 2):
        yield Problem(
            ("zero_optimization", "contiguous_gradients"),
            "false would average the gradients of different experts; set it to true",
        )
    if zero.reduce_scatter is False and zero.stage in (1, 2):
        yield Problem(("zero_optimization", "reduce_scatter"), "false is not supported with experts; set it to true")
    moe = smoe.moe
    unlike = [block for block in moe.blocks(smoe.model).values() if not block.ranks_are_alike(moe.ep_size)]
    if unlike and zero.stage:
        yield Problem(
            ("smoe", "moe", "expert_widths"),
            f"{unlike[0].expert_widths} gives the {moe.ep_size} ranks of an expert-parallel group experts of different "
            f"widths, so ZeRO's buckets would fill at different moments on each; make every {moe.ep_size} ratios in a "
            "row equal, or set ep_size to 1 or zero_optimization.stage to 0",
        )
    stacked = [block for block in moe.blocks(smoe.model).values() if block.stacked]
    uneven = [n for block in stacked for n in block.strata if n % moe.ep_size]
    if uneven and (zero.stage == 2 or (zero.stage == 1 and zero.overlap_comm)):
        yield Problem(
            ("smoe", "moe", "ep_size"),
            f"{moe.ep_size} does not divide the stacked stratum of {uneven[0]} experts, so ranks would reduce "
            "gradients at different moments of the backward pass; choose one that divides every stratum, or ZeRO stage "
            "1 with overlap_comm false",
        )


def check_world(run: RunConfig, world_size: int) -> None:
    """Refuses a number of ranks that the run cannot be spread over.

    Args:
        run: the run.
        world_size: ranks, all of them data-parallel.

    Raises:
        ConfigError: every problem, with the nearest numbers that work.
    """
    problems = []
    batch, ep_size = run.train_batch_size, run.smoe.moe.ep_size
    if batch % world_size:
        below, above = batch // world_size * world_size, -(-batch // world_size) * world_size
        choices = f"{below} or {above}" if below else f"{above}"
        ranks = [n for n in range(1, min(batch, 4 * world_size) + 1) if batch % n == 0]
        near = sorted(sorted(ranks, key=lambda n: abs(n - world_size))[:2])
        problems.append(
            f"train_batch_size: {batch} micro-batches a step cannot be shared by {world_size} ranks; "
            f"set it to {choices}, or start {' or '.join(map(str, near))} ranks"
        )
    if not run.smoe.moe.is_dense and world_size % ep_size:
        experts = {sum(block.strata) for block in run.smoe.moe.blocks(run.smoe.model).values()}
        sizes = [n for n in range(1, world_size + 1) if not any(number % n for number in (world_size, *experts))]
        problems.append(
            f"smoe.moe.ep_size: {ep_size} does not divide the {world_size} ranks; "
            f"set it to {' or '.join(map(str, sizes))}, or start a multiple of {ep_size} ranks"
        )
    if problems:
        raise ConfigError([f"{run.source}: {problem}" for problem in problems])


def check_languages(run: RunConfig, highest_id: int) -> None:
    """Refuses a vocabulary with language tokens that a router has no place for.

    Args:
        run: the run.
        highest_id: of the vocabulary's language tokens.

    Raises:
        ConfigError: every problem, with the remedy.
    """
    problems = [
        f"{run.source}: smoe.moe.router: {name}: {problem}"
        for name, block in run.smoe.moe.blocks(run.smoe.model).items()
        if (problem := block.router.problem_with_languages(highest_id))
    ]
    if problems:
        raise ConfigError(problems)


def check_device(run: RunConfig, device: str, compute_capability: tuple[int, int] | None = None) -> None:
    """Refuses a precision that the device computes wrongly or slowly.

    Args:
        run: the run.
        device: ``cuda`` or ``cpu``.
        compute_capability: of the CUDA device, e.g. ``(7, 0)`` for V100.

    Raises:
        ConfigError: bf16 on a GPU before Ampere, where it is emulated.
    """
    if device == "cuda" and run.precision == "bf16" and compute_capability is not None and compute_capability < (8, 0):
        name = ".".join(map(str, compute_capability))
        raise ConfigError(
            f"{run.source}: bf16.enabled: this GPU (compute capability {name}) has no bf16; "
            "use engine/v100_fp16_zero1.json, or fp16 with ZeRO stage 1 or 2"
        )
