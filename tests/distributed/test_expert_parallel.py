"""The expert-parallel layer on real ranks against the same layer on one process, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher, sum_over_ranks
from smoe_ds.moe.losses import load_balancing_loss, router_z_loss
from tests.helpers.layers import noisy_layer
from tests.helpers.ranks import run_ranks

D, F, N = 6, 10, 17
STRATA = [[8], [4, 4], [3, 5], [2, 2, 2, 2], [1, 3], [3, 1, 4]]
CASES = [
    (strata, capacity_factor, empty) for strata in STRATA for capacity_factor in (None, 0.6) for empty in (None, 0)
]


def make_layer(
    strata: list[int], capacity_factor: float | None, ep_size: int = 1, ep_rank: int = 0, chunks: int = 1
) -> StratifiedMoE:
    settings = {"capacity_factor": capacity_factor, "exchange_chunks": chunks}
    return noisy_layer(D, F, strata, ep_size=ep_size, ep_rank=ep_rank, **settings)


def make_input(rank: int, empty_rank: int | None) -> tuple[Tensor, Tensor]:
    """Ranks have different numbers of tokens; one may have only padding."""
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
    padding = torch.arange(N) >= N - 3 * rank
    return x.requires_grad_(), torch.ones_like(padding) if rank == empty_rank else padding


def objective(y: Tensor, loss: Tensor) -> Tensor:
    return (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum() + loss


def parallel(rank: int, world_size: int, ep_size: int, chunks: int, cases: list) -> list:
    """Every case on this rank: output, loss, input gradient and parameter gradients, summed over replicas."""
    groups = [dist.new_group(list(range(r, r + ep_size))) for r in range(0, world_size, ep_size)]
    results = []
    for strata, capacity_factor, empty in cases:
        layer = make_layer(strata, capacity_factor, ep_size, rank % ep_size, chunks)
        if ep_size > 1:
            layer.dispatcher = ExpertParallelDispatcher(groups[rank // ep_size], chunks)
        x, padding = make_input(rank, empty)
        y, stats = layer(x, padding)
        loss = load_balancing_loss([stats], sum_over_ranks, world_size)
        objective(y, loss / world_size).backward()
        grads = {name: p.grad for name, p in layer.named_parameters()}
        results.append((y.detach(), loss.item(), x.grad, grads, stats.requested_capacity))
    return results


def whole_batch(world_size: int, strata: list[int], capacity_factor: float | None, empty: int | None) -> tuple:
    """One process: each rank's tokens through the whole layer, one balance loss over all of them."""
    layer = make_layer(strata, capacity_factor)
    inputs = [make_input(rank, empty) for rank in range(world_size)]
    outputs = [layer(x, padding) for x, padding in inputs]
    losses = []
    for i in range(len(strata)):
        per_rank = [stats.strata[i] for _, stats in outputs]
        tokens = max(sum(s.num_tokens for s in per_rank), 1)
        share = sum(s.first_choice_E.double() for s in per_rank) / tokens
        mean = sum(s.prob_sum_E for s in per_rank) / tokens
        losses.append(share.numel() * (share * mean).sum())
    total = sum(losses) / len(strata)
    (sum(objective(y, torch.zeros(())) for y, _ in outputs) + total).backward()
    return layer, inputs, outputs, total


@pytest.mark.multirank
@pytest.mark.parametrize(
    ("world_size", "ep_size", "chunks"), [(2, 1, 1), (2, 2, 1), (4, 2, 1), (4, 4, 1), (2, 2, 2), (4, 2, 3), (4, 4, 9)]
)
def test_equals_one_process(world_size: int, ep_size: int, chunks: int) -> None:
    cases = [case for case in CASES if sum(case[0]) % ep_size == 0]
    per_rank = run_ranks(parallel, world_size, ep_size, chunks, cases)
    for number, case in enumerate(cases):
        layer, inputs, outputs, loss = whole_batch(world_size, *case)
        ranks = [results[number] for results in per_rank]
        assert sum(r[1] for r in ranks) / world_size == pytest.approx(loss.item(), rel=1e-12, abs=1e-12)
        for rank, (y, _, x_grad, _, passes) in enumerate(ranks):
            torch.testing.assert_close(y, outputs[rank][0].detach(), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(x_grad, inputs[rank][0].grad, rtol=1e-11, atol=1e-11)
            assert torch.equal(passes, outputs[rank][1].requested_capacity)
        for name, p in layer.named_parameters():
            holders = [r[3][name] for r in ranks if name in r[3]]
            assert len(holders) == (world_size // ep_size if "experts" in name else world_size)
            torch.testing.assert_close(sum(holders), p.grad, rtol=1e-11, atol=1e-11, msg=f"{case} {name}")


def count_exchanged(rank: int, world_size: int, chunks: int) -> tuple[int, int]:
    """Rows sent by all_to_all in one forward pass, and rows whose expert is on another rank."""
    layer = make_layer([4, 4], None, world_size, rank, chunks)
    layer.dispatcher = dispatcher = ExpertParallelDispatcher(dist.group.WORLD, chunks)
    sent, needed = [], []
    exchange, counts = dist.all_to_all_single, dispatcher.exchange_counts

    def spy_exchange(out: Tensor, rows: Tensor, *rest: object, **options: object) -> object:
        if rows.is_floating_point():
            sent.append(rows.shape[0])
        return exchange(out, rows, *rest, **options)

    def spy_counts(kept: Tensor, experts_per_rank: list[int], *rest: Tensor) -> object:
        needed.append(int(kept[: len(kept) - experts_per_rank[rank]].sum()))
        return counts(kept, experts_per_rank, *rest)

    dist.all_to_all_single, dispatcher.exchange_counts = spy_exchange, spy_counts
    layer(make_input(rank, None)[0])
    return sum(sent), sum(needed)


@pytest.mark.multirank
@pytest.mark.parametrize("chunks", [1, 3])
def test_only_rows_for_other_ranks_travel(chunks: int) -> None:
    counts = run_ranks(count_exchanged, 2, chunks)
    assert sum(needed for _, needed in counts) > 0
    assert sum(sent for sent, _ in counts) == 2 * sum(needed for _, needed in counts)  # there, and the results back


OPTIONS = [
    {"capacity_order": "probability", "capacity_factor": 0.6},
    {"shared_expert": "cmr", "cmr_gate_dropout": 0.3},
    {"shared_expert": "add", "stacked": True},
    {"heads": 2, "shared_expert": "cmr", "dropout": 0.1},
    {"shared_expert": "residual", "final_output_masking": 0.3},
    {"top_k": 1, "bias_balancing": 0.05},
    {"expert_output_masking": 0.2, "jitter": 0.1, "dropout": 0.1, "second_expert": "sample"},
    {"activation": "swiglu", "gating_dropout": 0.5},
]


def option_on_rank(rank: int, world_size: int, ep_size: int) -> list:
    """Output and input gradient of every option, with noise that depends on the rank's tokens alone."""
    groups = [dist.new_group(list(range(r, r + ep_size))) for r in range(0, world_size, ep_size)]
    results = []
    for options in OPTIONS:
        settings = {"second_expert": "argmax", "expert_init": "xavier", **options}
        layer = StratifiedMoE(D, F, [2, 2], ep_size=ep_size, ep_rank=rank % ep_size, seed=3, **settings).double()
        if ep_size > 1:
            layer.dispatcher = ExpertParallelDispatcher(groups[rank // ep_size])
        x, padding = make_input(rank, None)
        torch.manual_seed(10 + rank)
        y, stats = layer(x, padding)
        objective(y, load_balancing_loss([stats]) + router_z_loss([stats])).backward()
        results.append((y.detach(), x.grad))
    return results


@pytest.mark.multirank
@pytest.mark.parametrize("ep_size", [2, 4])
def test_options_do_not_depend_on_the_expert_parallel_size(ep_size: int) -> None:
    for local, spread in zip(run_ranks(option_on_rank, 4, 1), run_ranks(option_on_rank, 4, ep_size), strict=True):
        for expected, got in zip(local, spread, strict=True):
            for one, other in zip(expected, got, strict=True):
                torch.testing.assert_close(other, one, rtol=1e-11, atol=1e-12)
