"""Five optimizer steps on every topology against one process that knows nothing of DeepSpeed or ranks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.routers.random import Random
from smoe_ds.data.batch import Batch, empty_batch
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.losses import auxiliary_losses
from smoe_ds.train.micro_step import LossSettings, forward, seed_micro_batch, token_scale
from tests.helpers.engines import join_gloo
from tests.helpers.ranks import run_ranks

MICRO_BATCHES, STEPS, VOCAB, LR = 4, 5, 29, 1e-3
# Adam divides by the gradient's own size, so that float32 rounding of a tiny gradient can move a weight by a visible
# part of the learning rate; five steps of 1e-3 leave this much.
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 2e-6, 2e-5
PER_MICRO_BATCH = MoeConfig(
    strata=[2, 2, 2, 2], capacity_factor=1.0, load_balancing_batch="local", expert_init="xavier"
)
WHOLE_BATCH = MoeConfig(
    strata=[3, 5], capacity_factor=None, second_expert="argmax", load_balancing_batch="global", expert_init="xavier"
)
TWO_PASSES = MoeConfig(strata=[2, 2], router=Random(consistency=2.0), expert_init="xavier")
CPU = torch.device("cpu")


def sizes(dropout: float) -> ModelConfig:
    return ModelConfig(
        d_model=16,
        d_ffn=20,
        num_heads=2,
        encoder_layers=2,
        decoder_layers=2,
        dropout=dropout,
        attention_dropout=dropout,
        max_positions=16,
    )


def micro_batch(index: int) -> Batch:
    """Sentences of many lengths; a token or two in some batches, so that strata stay empty; one batch all padding."""
    if index == 6:
        return empty_batch()
    generator = torch.Generator().manual_seed(index)
    rows = 1 if index % 5 == 1 else 3
    longest = 2 if index % 5 == 1 else 5 + index % 7

    def ids(length: int) -> Tensor:
        tokens = torch.randint(4, VOCAB, (rows, length), generator=generator)
        lengths = torch.randint(1, length + 1, (rows, 1), generator=generator)
        return tokens.masked_fill(torch.arange(length) >= lengths, 0)

    src, tgt_out = ids(longest), ids(longest + 1)
    tgt_in = torch.cat([torch.ones(rows, 1, dtype=torch.long), tgt_out[:, :-1]], dim=1) * (tgt_out != 0)
    counts = int((src != 0).sum()), int((tgt_out != 0).sum())
    return Batch(src, tgt_in, tgt_out, *counts, directions=("a-b",) * rows, index=index)


def whole(step: int) -> Batch:
    """All micro-batches of a step as one."""
    parts = [micro_batch(step * MICRO_BATCHES + m) for m in range(MICRO_BATCHES)]

    def stack(name: str) -> Tensor:
        rows = [row for part in parts for row in getattr(part, name)]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    tokens = sum(p.num_src_tokens for p in parts), sum(p.num_tgt_tokens for p in parts)
    return Batch(stack("src"), stack("tgt_in"), stack("tgt_out"), *tokens, directions=(), index=step)


def tgt_tokens(step: int) -> int:
    return sum(micro_batch(step * MICRO_BATCHES + m).num_tgt_tokens for m in range(MICRO_BATCHES))


def one_process(moe: MoeConfig, dropout: float, steps_of: str) -> tuple[list[float], dict[str, Tensor]]:
    """The reference: plain PyTorch, Adam, gradients added up over the micro-batches of a step or one big batch."""
    model = Transformer(sizes(dropout), moe, VOCAB, seed=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, betas=(0.9, 0.98), eps=1e-6)
    settings = LossSettings(0.1, auxiliary_losses(moe, sizes(0.0)), consistency=moe.consistency_weight(sizes(0.0)))
    losses = []
    for step in range(STEPS):
        batches = [whole(step)]
        if steps_of == "micro-batches":
            batches = [micro_batch(step * MICRO_BATCHES + m) for m in range(MICRO_BATCHES)]
        total = 0.0
        for batch in batches:
            seed_micro_batch(9, batch.index)
            result = forward(model, batch, settings, CPU, token_scale(1, len(batches), tgt_tokens(step)))
            (result.loss / len(batches)).backward()
            total += result.loss.item() / len(batches)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses, {name: p.detach() for name, p in model.named_parameters()}


def engine_config(stage: int, world_size: int) -> dict[str, Any]:
    return {
        "train_batch_size": MICRO_BATCHES,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": MICRO_BATCHES // world_size,
        "gradient_clipping": 0.0,
        "steps_per_print": None,
        "optimizer": {
            "type": "Adam",
            "params": {"lr": LR, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.0, "adam_w_mode": False},
        },
        "zero_optimization": {"stage": stage},
    }


def on_ranks(rank: int, world_size: int, runs: list) -> list[tuple]:
    """Every run: losses of the steps, parameters by name, whether a stratum was empty here but not everywhere."""
    from smoe_ds.engine.adapter import build_model
    from smoe_ds.engine.build import build_engine
    from smoe_ds.moe.expert_parallel import sum_over_ranks

    join_gloo()
    results = []
    for moe, dropout, stage in runs:
        model = build_model(sizes(dropout), moe, VOCAB, seed=3, rank=rank)
        engine = build_engine(model, engine_config(stage, world_size))
        over_ranks = moe.load_balancing_batch == "global" and world_size > 1
        settings = LossSettings(
            0.1,
            auxiliary_losses(moe, sizes(0.0)),
            sum_over_ranks if over_ranks else None,
            world_size if over_ranks else 1,
            moe.consistency_weight(sizes(0.0)),
        )
        accumulation = MICRO_BATCHES // world_size
        losses, empty_here_only = [], False
        for step in range(STEPS):
            total = torch.zeros((), dtype=torch.float64)
            for m in range(accumulation):
                batch = micro_batch(step * MICRO_BATCHES + m * world_size + rank)
                seed_micro_batch(9, batch.index)
                scale = token_scale(world_size, accumulation, tgt_tokens(step))
                result = forward(engine, batch, settings, CPU, scale)
                engine.backward(result.loss)
                engine.step()
                total += result.loss.detach().double() / MICRO_BATCHES
                here = torch.tensor([s.num_tokens == 0 for b in result.stats for s in b.strata]).long()
                everywhere = sum_over_ranks(here)
                empty_here_only |= bool(((here > 0) & (everywhere < world_size)).any())
            losses.append(sum_over_ranks(total).item())
        parameters = {name: p.detach().clone() for name, p in engine.module.named_parameters()}
        results.append((losses, parameters, empty_here_only))
    return results


def check(results: list, expected: tuple, ep_size: int, label: str) -> None:
    losses, parameters = expected
    for rank_losses, rank_parameters, _ in results:
        assert rank_losses == pytest.approx(losses, rel=LOSS_TOLERANCE), label
        for name, value in rank_parameters.items():
            difference = (value - parameters[name]).abs().max().item()
            assert difference <= WEIGHT_TOLERANCE, f"{label}: {name} differs by {difference}"
    held = set().union(*(set(rank_parameters) for _, rank_parameters, _ in results[:ep_size]))
    assert held == set(parameters), label


@pytest.mark.multirank
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_equal_losses_and_parameters(world_size: int) -> None:
    """ZeRO 0, 1, 2 and every expert-parallel size that divides the ranks; with dropout and sampling, and without."""
    references = {
        "local": one_process(PER_MICRO_BATCH, 0.1, "micro-batches"),
        "global": one_process(WHOLE_BATCH, 0.0, "whole batches"),
        "two passes": one_process(TWO_PASSES, 0.1, "micro-batches"),
    }
    sizes_that_divide = [n for n in (1, 2, 4) if world_size % n == 0]
    plans = []
    for ep_size, stage in itertools.product(sizes_that_divide, (0, 1, 2)):
        spread = {"ep_size": ep_size, "exchange_chunks": 1 + stage}
        plans.append(("local", ep_size, (PER_MICRO_BATCH.model_copy(update=spread), 0.1, stage)))
        plans.append(("two passes", ep_size, (TWO_PASSES.model_copy(update=spread), 0.1, stage)))
        if world_size == MICRO_BATCHES:  # one micro-batch per rank: the balance loss sees the whole batch at once
            plans.append(("global", ep_size, (WHOLE_BATCH.model_copy(update={"ep_size": ep_size}), 0.0, stage)))
    per_rank = run_ranks(on_ranks, world_size, [run for _, _, run in plans], timeout=300)
    for number, (kind, ep_size, run) in enumerate(plans):
        results = [rank_results[number] for rank_results in per_rank]
        check(results, references[kind], ep_size, f"world {world_size} ep_size {ep_size} ZeRO {run[2]} {kind}")
    if world_size > 1:
        assert any(empty for rank_results in per_rank for _, _, empty in rank_results)
