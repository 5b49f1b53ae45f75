"""The closed form of a step's time against a hand calculation, a naive simulation, and what must grow with what."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from smoe_ds.config import RunConfig, load_run
from smoe_ds.errors import ConfigError
from smoe_ds.moe.loads import StratumLoad
from smoe_ds.planning.plan import make_plan
from smoe_ds.planning.work import Work, work_of
from smoe_ds.scaling.collectives import Topology
from smoe_ds.scaling.constants import KINDS, Constant, Constants
from smoe_ds.scaling.line import Line
from smoe_ds.scaling.step_time import PARTS, measured_parts, reduced_bytes, step_time
from tests.helpers.environment import ROOT
from tests.helpers.step_simulation import Simulation

CONFIGS = ROOT / "ds_configs"
VOCAB = 1000
BASE = [
    "smoe.model.d_model=64",
    "smoe.model.d_ffn=256",
    "smoe.model.num_heads=2",
    "smoe.data.max_tokens=4096",
    "smoe.data.prefetch_steps=2",
    "fp16.enabled=false",
    "zero_optimization.overlap_comm=false",
    "zero_optimization.reduce_bucket_size=100000",
]


def run_of(*settings: str) -> RunConfig:
    return load_run(CONFIGS / "m4.json", [*BASE, *settings])


def constants_of(**changes: Line) -> Constants:
    """Every constant another number, so that a wrong one shows."""
    lines = {
        kind: Line(1e-4 * (1 + number / 7), 10.0 ** (8 + number % 3) * (1 + number / 5))
        for number, kind in enumerate(KINDS)
    }
    lines |= {"draw": Line(0.0, 1e12), "read": Line(0.0, 1e12)}
    lines |= changes
    return Constants("made up", "cpu", "fp32", {kind: Constant(line, True) for kind, line in lines.items()})


def predicted(run: RunConfig, constants: Constants, topology: Topology):  # type: ignore[no-untyped-def]
    return step_time(run, work_of(run, VOCAB), constants, topology)


def simulated(run: RunConfig, constants: Constants, topology: Topology) -> float:
    parameters = make_plan(run, vocab_size=VOCAB, world_size=topology.ranks).parameters
    work = work_of(run, VOCAB)
    kinds = {"dense": parameters["total"] - parameters["experts"], "experts": parameters["experts"]}
    return Simulation(
        run, constants, topology.nodes, topology.per_node, work.dense_flops, work.sublayers, kinds
    ).seconds()


def test_by_hand() -> None:
    """Two ranks of one host share two experts, one micro-batch each; every figure below is worked out on paper."""
    run = run_of("smoe.moe.strata=[2]", "smoe.moe.ep_size=2", "train_batch_size=2", "zero_optimization.stage=1")
    stratum = StratumLoad(tokens=50, rows=100, busiest_rows=100, busiest_experts=1, sent_rows=50, busiest_sent_rows=50)
    work = Work(
        dense_flops=1000,
        sublayers=10,
        flops_per_row=30,
        blocks=2,
        strata=(stratum,),
        row_bytes=8,
        itemsize=4,
        dense_parameters=300_000,
        expert_parameters=40_000,
        padded_tokens=200,
        tokens=180,
        micro_batches=2,
    )
    lines = {
        "dense": Line(0.1, 1000),
        "expert": Line(0.5, 9000),
        "routing": Line(0.25, 16_000),
        "memory": Line(0.0, 6400),
        "update": Line(1.0, 19_000),
        "all_to_all_within": Line(0.01, 400),
        "all_reduce_within": Line(0.001, 1_200_000),
    }
    found = step_time(run, work, constants_of(**lines), Topology(1, 2))
    assert found.parts == pytest.approx(
        {
            "dense": 10 * 0.1 + 3 * 1000 / 1000,
            "experts": 2 * (0.5 + 3 * 100 * 30 / 9000),
            "routing": 2 * (0.25 + 20 * 100 * 8 / 16_000 + 16 * 50 * 8 / 6400),
            # Counts, there and back, and gradients there and back: 50 rows of 8 bytes at 400 bytes/s.
            "exchange": 2 * (0.01 + 4 * (0.01 + 50 * 8 / 400)),
            # Three buckets, each two steps of the ring; 1.2 MB pass once in all. Copies: 3 times 1.2 MB.
            "reduction": 3 * 2 * 0.001 + 1.2e6 / 1.2e6 + 3 * 1.2e6 / 6400,
            "expert_reduction": 3 * 4 * 40_000 / 6400,  # no other rank holds these experts
            "gather": 0.001 + 0.6e6 / 1.2e6,
            "optimizer": 1 + (150_000 + 40_000) / 19_000,
            "offload": 0,
            "data": 0,
            "other": (4 + 1 + 1) * 2 * 0.001,
        },
        abs=1e-9,
    )
    (exchange,) = found.exchange
    assert (exchange.forward, exchange.backward) == pytest.approx((2 * (0.01 + 2 * 1.01), 2 * 2 * 1.01))
    assert exchange.sent_bytes == 2 * 4 * 50 * 8 == work.exchanged_bytes
    assert found.tokens_per_second == pytest.approx(360 / found.seconds)


CASES = [
    # nodes, per node, strata, ep_size, ZeRO stage
    (1, 1, [4, 4], 1, 1),
    (1, 4, [4, 4], 1, 0),
    (1, 4, [4, 4], 2, 1),
    (1, 4, [4, 4], 4, 2),
    (2, 4, [4, 4], 4, 1),
    (2, 4, [8], 8, 1),
    (4, 2, [4, 4], 4, 2),
    (8, 4, [2, 2, 2, 2], 2, 1),
]


@pytest.mark.parametrize(("nodes", "per_node", "strata", "ep_size", "stage"), CASES, ids=str)
def test_is_the_simulation_where_experts_lie_evenly(
    nodes: int, per_node: int, strata: list[int], ep_size: int, stage: int
) -> None:
    run = run_of(
        f"smoe.moe.strata={strata}",
        f"smoe.moe.ep_size={ep_size}",
        f"zero_optimization.stage={stage}",
        "train_batch_size=64",
    )
    topology = Topology(nodes, per_node)
    found = predicted(run, constants_of(), topology)
    # A rank alone sums nothing up; the simulation's ring of one takes no time either.
    assert found.seconds == pytest.approx(simulated(run, constants_of(), topology), rel=1e-9)


@pytest.mark.parametrize("per_node", [4, 8])
def test_is_the_simulation_where_ranks_wait_for_the_busiest(per_node: int) -> None:
    """Of the twelve experts in the second stratum of [4, 12], half of eight ranks hold two, the others one."""
    run = run_of("smoe.moe.strata=[4,12]", f"smoe.moe.ep_size={per_node}", "train_batch_size=8")
    even = run_of("smoe.moe.strata=[8,8]", f"smoe.moe.ep_size={per_node}", "train_batch_size=8")
    topology = Topology(1, per_node)
    assert predicted(run, constants_of(), topology).seconds == pytest.approx(
        simulated(run, constants_of(), topology), rel=1e-9
    )
    ratio = [work_of(r, VOCAB).strata[1].busiest_rows / work_of(r, VOCAB).strata[1].rows for r in (run, even)]
    assert ratio == pytest.approx([1.0 if per_node == 4 else 8 * 2 / 12, 1.0])


@pytest.mark.parametrize("kind", list(KINDS))
def test_nothing_gets_faster_on_slower_links_and_devices(kind: str) -> None:
    offload = 'zero_optimization.offload_optimizer={"device": "cpu"}'
    for settings in (["smoe.moe.ep_size=4"], ["smoe.moe.ep_size=8", offload], ["smoe.moe.exchange_chunks=4"]):
        run = run_of("smoe.moe.strata=[4,4]", "train_batch_size=64", *settings)
        constants = replace(constants_of(), spare_core=False)
        seconds = []
        for factor in (0.0, 0.5, 1.0, 2.0, 8.0):
            line = constants.lines[kind].line
            slower = Line(factor * line.fixed, line.per_second / max(factor, 0.1))
            lines = {**constants.lines, kind: Constant(slower, True)}
            seconds.append(predicted(run, replace(constants, lines=lines), Topology(2, 4)).seconds)
        assert seconds == sorted(seconds)
        used = kind not in (("update",) if offload in settings else ("host_update", "transfer"))
        exchanged = kind.startswith("all_to_all")
        if (
            used
            and not (exchanged and run.smoe.moe.ep_size == 1)
            and not (kind == "all_to_all_between" and run.smoe.moe.ep_size <= 4)
        ):
            assert seconds[0] < seconds[-1]


def test_parts_are_those_that_are_named_and_sum_up() -> None:
    for settings in ([], ["smoe.moe.ep_size=2"], ["smoe.moe.strata=[]"], ["zero_optimization.stage=2"]):
        run = run_of("train_batch_size=16", *settings)
        found = predicted(run, constants_of(), Topology(2, 4))
        assert list(found.parts) == list(PARTS)
        assert all(seconds >= 0 for seconds in found.parts.values())
        assert found.seconds == pytest.approx(math.fsum(found.parts.values()))
        assert sum(one.forward + one.backward for one in found.exchange) == pytest.approx(found.parts["exchange"])
        assert found.as_json()["seconds"] == found.seconds


def test_gradients_by_zero_stage() -> None:
    sizes = {}
    for stage in (0, 1, 2):
        run = run_of("smoe.moe.ep_size=2", f"zero_optimization.stage={stage}", "train_batch_size=32")
        plan = make_plan(run, vocab_size=VOCAB)
        sizes[stage] = reduced_bytes(run, work_of(run, VOCAB), Topology(2, 4))
        dense = plan.parameters["total"] - plan.parameters["experts"]
        times = 4 if stage == 2 else 1  # ZeRO 2 sums every micro-batch's
        assert sizes[stage] == {
            "reduction": times * 4 * dense,
            "expert_reduction": times * 4 * plan.parameters["experts"] // 2,
        }
    alone = reduced_bytes(run_of("smoe.moe.ep_size=2"), work_of(run, VOCAB), Topology(1, 2))
    assert alone["expert_reduction"] == 0


def test_reduction_hides_behind_the_backward_pass_on_a_device_of_its_own() -> None:
    run = run_of("zero_optimization.overlap_comm=true", "train_batch_size=8")
    on_cpu = predicted(run, constants_of(), Topology(2, 4))
    on_gpu = predicted(run, replace(constants_of(), accelerator="cuda"), Topology(2, 4))
    assert on_cpu.hidden_reduction == 0 < on_gpu.hidden_reduction
    assert on_gpu.seconds + on_gpu.hidden_reduction == pytest.approx(on_cpu.seconds)
    assert on_gpu.parts["reduction"] > 0  # the last bucket has nothing left to hide behind


def test_chunks_hide_what_experts_can_cover() -> None:
    def exchange(chunks: int, **changes: Line) -> float:
        run = run_of("smoe.moe.ep_size=4", f"smoe.moe.exchange_chunks={chunks}", "train_batch_size=4")
        free = {"all_to_all_within": replace(constants_of().line("all_to_all_within"), fixed=0.0)}
        return predicted(run, constants_of(**{**free, **changes}), Topology(1, 4)).parts["exchange"]

    assert exchange(4) < exchange(2) < exchange(1)
    # Experts that take no time cover nothing.
    assert exchange(4, expert=Line(0.0, 1e30)) == pytest.approx(exchange(1))
    # Experts that take very long cover all but one chunk of four.
    assert exchange(4, expert=Line(0.0, 1e3)) == pytest.approx(exchange(1) / 4)


def test_activation_checkpointing_computes_and_exchanges_forward_twice() -> None:
    once, twice = (
        predicted(
            run_of("smoe.moe.ep_size=4", "train_batch_size=4", f"smoe.train.activation_checkpointing={setting}"),
            constants_of(),
            Topology(1, 4),
        )
        for setting in ("false", "true")
    )
    assert twice.parts["dense"] == pytest.approx(once.parts["dense"] * 4 / 3)
    assert twice.exchange[0].forward == pytest.approx(once.exchange[0].forward * 2)
    assert twice.exchange[0].backward == pytest.approx(once.exchange[0].backward)
    assert twice.exchange[0].sent_bytes == pytest.approx(once.exchange[0].sent_bytes * 1.5)


def test_two_passes_compute_and_exchange_all_twice() -> None:
    run, topology = run_of("smoe.moe.ep_size=2", "zero_optimization.stage=2"), Topology(2, 2)
    work = work_of(run, VOCAB)
    once, twice = (step_time(run, replace(work, passes=n), constants_of(), topology) for n in (1, 2))
    doubled = {"dense", "experts", "routing", "exchange"}
    for part, seconds in once.parts.items():
        assert twice.parts[part] == pytest.approx((2 if part in doubled else 1) * seconds), part
    assert all(once.parts[part] > 0 for part in doubled)
    assert twice.exchange[0].sent_bytes == 2 * once.exchange[0].sent_bytes


def test_data_hides_behind_the_step_only_with_a_thread_and_a_core() -> None:
    slow = constants_of(draw=Line(0.0, 1e2))
    waits = []
    for prefetch, spare in ((2, True), (2, False), (0, True)):
        run = run_of("train_batch_size=8", f"smoe.data.prefetch_steps={prefetch}")
        waits.append(predicted(run, replace(slow, spare_core=spare), Topology(2, 4)))
    hidden, shown, threadless = (found.parts["data"] for found in waits)
    assert shown == threadless == pytest.approx(8 * 4096 / 1e2 + 4096 / 1e12)
    assert hidden == pytest.approx(shown - (waits[0].seconds - hidden))


def test_what_is_assumed_is_marked() -> None:
    constants = constants_of()
    lines = {**constants.lines, "all_reduce_between": replace(constants.lines["all_reduce_between"], measured=False)}
    run = run_of("smoe.moe.ep_size=2", "train_batch_size=8")
    mixed = replace(constants, lines=lines)
    parts = measured_parts(mixed, predicted(run, mixed, Topology(2, 4)))
    assert parts["dense"] and parts["experts"] and parts["exchange"]
    assert not (parts["reduction"] or parts["gather"] or parts["other"])


def test_a_constant_that_is_not_known_is_named_with_the_remedy() -> None:
    constants = constants_of()
    without = {kind: one for kind, one in constants.lines.items() if kind != "all_reduce_between"}
    with pytest.raises(ConfigError, match=r"all reduce between was not measured .* --interconnect ib-fdr\|ib-edr"):
        predicted(run_of("train_batch_size=8"), replace(constants, lines=without), Topology(2, 4))
