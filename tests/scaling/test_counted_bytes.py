"""The planned bytes against those that real ranks send: the layer's exchange, and DeepSpeed's sums and gathers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from smoe_ds.config import RunConfig, load_run
from smoe_ds.planning.plan import make_plan
from smoe_ds.planning.work import work_of
from smoe_ds.scaling.collectives import Topology
from smoe_ds.scaling.constants import choose_constants
from smoe_ds.scaling.step_time import reduced_bytes, step_time
from tests.benchmarks.exchange import Counter
from tests.helpers.engines import engine_of_run
from tests.helpers.environment import ROOT
from tests.helpers.ranks import run_ranks

CONFIG = ROOT / "ds_configs" / "m4.json"
VOCAB = 300
SMALL = [
    "smoe.model.d_model=32",
    "smoe.model.d_ffn=64",
    "smoe.model.num_heads=2",
    "smoe.model.encoder_layers=2",
    "smoe.model.decoder_layers=2",
    "smoe.data.max_tokens=1024",
    "optimizer.params.torch_adam=true",
    "fp16.enabled=false",
    "zero_optimization.overlap_comm=false",
    "zero_optimization.reduce_bucket_size=20000",
]


def run_of(*settings: str) -> RunConfig:
    return load_run(CONFIG, [*SMALL, *settings])


def exchange_once(rank: int, world_size: int, settings: list[str]) -> dict[str, Any]:
    """Bytes of rows that this rank sends in one pass of a layer, and the rows wanted of each expert, by stratum."""
    from smoe_ds.model.feed_forward import moe_factory
    from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher

    smoe = run_of(*settings).smoe
    torch.manual_seed(rank)
    (block, *_) = smoe.moe.blocks(smoe.model).values()
    layer = moe_factory(smoe.model, 1, ep_rank=rank, ep_size=world_size)("block", block)
    layer.dispatcher = ExpertParallelDispatcher(dist.group.WORLD)
    x = torch.randn(512, smoe.model.d_model, requires_grad=True)
    with Counter() as counter:
        y, stats = layer(x)
        y.sum().backward()
    return {"bytes": counter.rows, "rows": [one.requested_KE.sum(0).tolist() for one in stats.strata]}


@pytest.mark.multirank
@pytest.mark.parametrize(("world_size", "strata"), [(2, [4, 4]), (4, [4, 4]), (4, [2, 6])], ids=str)
def test_exchange_is_what_a_layer_sends(world_size: int, strata: list[int]) -> None:
    settings = [f"smoe.moe.strata={strata}", f"smoe.moe.ep_size={world_size}", "smoe.moe.capacity_factor=null"]
    found = run_ranks(exchange_once, world_size, settings)
    planned = work_of(run_of(*settings), VOCAB)
    remote = 0  # rows whose expert is on another rank, as the layer's own statistics say
    for rank, one in enumerate(found):
        for stratum, rows in enumerate(one["rows"]):
            first = sum(strata[:stratum])
            remote += sum(n for e, n in enumerate(rows, first) if e % world_size != rank)
    total = sum(one["bytes"] for one in found)
    assert total == 4 * remote * planned.row_bytes
    assert total / world_size == pytest.approx(
        planned.exchanged_bytes / planned.blocks, rel=0.1
    )  # if routing were uniform


def step_once(rank: int, world_size: int, settings: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes that this rank hands to sums and gathers over more than one rank in a step, small ones left out."""
    import deepspeed

    engine = engine_of_run(run_of(*settings), VOCAB, rank, world_size)
    summed: dict[str, int] = {"all": 0, "some": 0}
    gathered: dict[str, int] = {"all": 0, "some": 0}
    reduce, gather = dist.all_reduce, deepspeed.comm.comm.cdb.all_gather_function

    def which(group: Any) -> str | None:
        size = dist.get_world_size(group)
        return None if size == 1 else "all" if size == world_size else "some"

    def all_reduce(tensor: torch.Tensor, *args: Any, group: Any = None, **options: Any) -> Any:
        if tensor.numel() > 100 and (kind := which(group)):
            summed[kind] += tensor.nbytes
        return reduce(tensor, *args, group=group, **options)

    def all_gather(output_tensor: torch.Tensor, *, group: Any, **options: Any) -> Any:
        if kind := which(group):
            gathered[kind] += output_tensor.nbytes
        return gather(output_tensor=output_tensor, group=group, **options)

    dist.all_reduce = all_reduce
    deepspeed.comm.comm.cdb.all_gather_function = all_gather
    for _ in range(engine.gradient_accumulation_steps()):
        tokens = torch.randint(4, VOCAB, (4, 16))
        logits, _ = engine(tokens, tokens)
        engine.backward(torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()))
        engine.step()
    return summed, gathered


@pytest.mark.multirank
@pytest.mark.parametrize(
    ("world_size", "ep_size", "stage", "batch"),
    [(2, 1, 0, 4), (2, 1, 1, 4), (2, 1, 2, 4), (2, 2, 1, 4), (4, 2, 1, 4), (4, 2, 2, 8)],
    ids=str,
)
def test_sums_and_gathers_are_what_deepspeed_does(world_size: int, ep_size: int, stage: int, batch: int) -> None:
    settings = [
        "smoe.moe.strata=[2,2]",
        f"smoe.moe.ep_size={ep_size}",
        f"zero_optimization.stage={stage}",
        f"train_batch_size={batch}",
    ]
    run = run_of(*settings)
    planned = work_of(run, VOCAB)
    sums = reduced_bytes(run, planned, Topology(1, world_size))
    apart = ep_size > 1  # with one copy a rank, experts are summed like all the rest
    expected = {
        "all": sums["reduction"] + (0 if apart else sums["expert_reduction"]),
        "some": sums["expert_reduction"] if apart else 0,
    }
    experts = planned.expert_parameters
    for summed, gathered in run_ranks(step_once, world_size, settings):
        assert summed == expected
        if stage == 0:
            assert gathered == {"all": 0, "some": 0}
        else:  # a flat vector is filled up so that it can be shared evenly
            whole = 4 * (planned.dense_parameters + (0 if apart else experts))
            part = 4 * experts * (apart and ep_size < world_size)
            assert gathered["all"] == pytest.approx(whole, rel=0.01)
            assert gathered["some"] == pytest.approx(part, rel=0.01)


def test_as_many_bytes_in_the_plan_and_at_scale() -> None:
    constants = choose_constants("fp16", file=None, device="v100", interconnect="ib-hdr", ports=1)
    for settings in (
        [],
        ["smoe.moe.strata=[2,6]"],
        ["smoe.moe.stacked=true", "smoe.moe.strata=[4,4]"],
        ["smoe.train.activation_checkpointing=true"],
    ):
        run = run_of("smoe.moe.ep_size=2", "train_batch_size=8", *settings)
        plan, planned = make_plan(run, vocab_size=VOCAB, world_size=4), work_of(run, VOCAB)
        found = step_time(run, planned, constants, Topology(1, 4))
        assert plan.exchange_bytes_per_step == round(2 * planned.exchanged_bytes)
        assert plan.exchange_bytes_per_step == round(sum(one.sent_bytes for one in found.exchange))
    half = replace(planned, blocks=1)
    assert half.exchanged_bytes == planned.exchanged_bytes / 2
