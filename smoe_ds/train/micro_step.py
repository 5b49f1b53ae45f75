"""A micro-batch forward, once or twice, and the loss whose gradient, averaged by DeepSpeed, is the global batch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.data.batch import Batch
from smoe_ds.model.loss import TranslationLoss, consistency_loss, translation_loss
from smoe_ds.moe.expert_parallel import sum_over_ranks
from smoe_ds.moe.losses import CONSISTENCY, AuxiliaryLoss, SumCounts, auxiliary_losses
from smoe_ds.moe.seeding import derive_seed
from smoe_ds.moe.stats import ModelStats


@dataclass(frozen=True)
class LossSettings:
    """What turns logits and routing into one number.

    Attributes:
        label_smoothing: see :func:`smoe_ds.model.loss.translation_loss`.
        auxiliary: what the blocks add, see :func:`smoe_ds.moe.losses.auxiliary_losses`.
        sum_counts: sums routing counts over the ranks; None for auxiliary losses over each rank's own tokens.
        num_ranks: ranks that ``sum_counts`` sums over.
        consistency: weight of the loss by which two passes of a micro-batch learn to agree; 0: there is one pass.
    """

    label_smoothing: float
    auxiliary: Sequence[AuxiliaryLoss] = ()
    sum_counts: SumCounts | None = None
    num_ranks: int = 1
    consistency: float = 0.0


@dataclass(frozen=True)
class MicroStep:
    """What one micro-batch gave.

    Attributes:
        loss: to be given to the engine's backward.
        translation: summed smoothed loss and NLL of this micro-batch; of two passes the mean.
        auxiliary: auxiliary losses by name, unweighted and without gradient; empty in a dense model.
        stats: routing of each block; of two passes the sum.
    """

    loss: Tensor
    translation: TranslationLoss
    auxiliary: dict[str, Tensor]
    stats: ModelStats


def loss_settings(smoe: SmoeConfig, world_size: int) -> LossSettings:
    """The loss that a run is configured for.

    Args:
        smoe: the run's own section.
        world_size: number of ranks; the process group is there if it is above 1.
    """
    over_ranks = smoe.moe.load_balancing_batch == "global" and world_size > 1
    return LossSettings(
        label_smoothing=smoe.train.label_smoothing,
        auxiliary=auxiliary_losses(smoe.moe, smoe.model),
        sum_counts=partial(sum_over_ranks, group=dist.group.WORLD) if over_ranks else None,
        num_ranks=world_size if over_ranks else 1,
        consistency=smoe.moe.consistency_weight(smoe.model),
    )


def seed_micro_batch(seed: int, index: int) -> None:
    """Makes dropout and expert sampling a function of (run seed, number of the micro-batch).

    Resuming then needs no generator state, and a micro-batch sees the same noise in every topology.
    """
    torch.manual_seed(derive_seed(seed, "micro-batch", index))


def token_scale(num_ranks: int, accumulation_steps: int, tgt_tokens: int) -> float:
    """Factor on a summed token loss that makes DeepSpeed's averages the mean over the global batch's target tokens.

    DeepSpeed divides by the accumulation steps and averages over the ranks, whatever the number of tokens each had.

    Args:
        num_ranks: ranks DeepSpeed averages over.
        accumulation_steps: micro-batches per rank and optimizer step.
        tgt_tokens: target tokens in all micro-batches of the optimizer step, all ranks.
    """
    return num_ranks * accumulation_steps / tgt_tokens


def forward(
    model: Callable[..., tuple[Tensor, ModelStats]],
    batch: Batch,
    settings: LossSettings,
    device: torch.device,
    scale: float,
) -> MicroStep:
    """Forward pass and loss of one micro-batch.

    With a consistency weight alpha there are two passes, which draw one after the other from the same generator, and
    the loss is ``(CE_1 + CE_2) / 2 + alpha * (KL(p_1, p_2) + KL(p_2, p_1)) / 2``; auxiliary losses are taken over the
    tokens of both. Both passes are kept for one backward pass.

    Args:
        model: the engine or the bare model.
        batch: micro-batch; may be all padding.
        settings: smoothing, balance.
        device: where to compute.
        scale: factor on the summed token losses, see :func:`token_scale`; auxiliary losses are means already.

    Source of the consistency loss: THOR, arXiv 2110.04260, where the cross-entropies are added up.
    """
    src, tgt_in, tgt_out = (ids.to(device, non_blocking=True) for ids in (batch.src, batch.tgt_in, batch.tgt_out))
    one_pass = partial(model, src, tgt_in, batch.num_src_tokens, batch.num_tgt_tokens)
    logits, stats = one_pass()
    translation = translation_loss(logits, tgt_out, settings.label_smoothing)
    loss, auxiliary = translation.smoothed * scale, {}
    if settings.consistency:
        other, other_stats = one_pass()
        translation = translation.mean_with(translation_loss(other, tgt_out, settings.label_smoothing))
        stats = stats.with_another(other_stats)
        agreement = consistency_loss(logits, other, tgt_out) * scale
        loss = translation.smoothed * scale + settings.consistency * agreement
        auxiliary[CONSISTENCY] = agreement.detach()
    for term in settings.auxiliary:
        value = term.compute(stats, sum_counts=settings.sum_counts, num_ranks=settings.num_ranks)
        loss = loss + term.weight * value
        auxiliary[term.name] = value.detach()
    return MicroStep(loss, translation, auxiliary, stats)
