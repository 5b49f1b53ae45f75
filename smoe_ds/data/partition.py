"""Who reads which micro-batch of the global sequence: functions of integers alone."""

from __future__ import annotations

from smoe_ds.errors import ConfigError


def check_partition(micro_batches_per_step: int, rank: int, world_size: int) -> None:
    """Raises ConfigError unless every rank can read the same number of micro-batches per step."""
    if not 0 <= rank < world_size:
        raise ConfigError(
            f"rank: expected 0 <= rank < world size {world_size}, found {rank}; check the launcher's variables"
        )
    if micro_batches_per_step < 1 or micro_batches_per_step % world_size:
        raise ConfigError(
            f"train_batch_size: {micro_batches_per_step} micro-batches per step do not divide over {world_size} ranks; "
            f"choose a multiple of {world_size}"
        )


def micro_batches_of_rank(first: int, micro_batches_per_step: int, rank: int, world_size: int) -> range:
    """Numbers of the micro-batches that one rank reads in the step whose first micro-batch is ``first``.

    In its micro step m rank r of W reads ``first + m * W + r``: the step as a whole is the same for every W.
    """
    return range(first + rank, first + micro_batches_per_step, world_size)


def rounds_of_all(num_micro_batches: int, world_size: int) -> int:
    """Micro steps after which ``world_size`` ranks have read ``num_micro_batches``, the last one perhaps in part."""
    return -(-num_micro_batches // world_size)
