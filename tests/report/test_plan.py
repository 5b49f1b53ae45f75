"""The text of a plan, whole, and of the paper's tables."""

from __future__ import annotations

import json
from dataclasses import replace

from smoe_ds.config import load_run
from smoe_ds.planning.paper_tables import PaperRow, paper_rows
from smoe_ds.planning.plan import Plan
from smoe_ds.report.plan import paper_page, paper_table, plan_page
from tests.helpers.environment import ROOT

PLAN = Plan(
    vocab_size=32_000,
    world_size=16,
    parameters={"embedding": 32_768_000, "shared_experts": 0, "experts": 805_797_888, "total": 964_749_312},
    parameters_per_device=259_676_160,
    trainable_parameters=964_749_312,
    paper_parameters=963_903_488,
    expected_requested_capacity=1.25,
    measured_requested_capacity=None,
    ffns_per_token=2.5,
    flops_per_token=657_000_000,
    training_passes=1,
    measured_flops_per_token=None,
    dense_flops="published",
    tokens_per_stratum=[1.0, 0.25],
    placement={"ep_size": 8, "per_stratum": [1.0, 4 / 3], "mean": 1.0667},
    exchange_bytes_per_step=840 * 2**20,
    memory={"weights": 2**30, "update": 2**20, "activations": 2**21, "total": 3 * 2**30},
    host_memory={},
    expert_backend="loop",
)
HEAD = [
    "m15.json: strata [4, 12], top_k 2, 16 rank(s), ep_size 8, ZeRO 1, fp16",
    "vocabulary 32,000 (given)",
    "",
    "parameters",
    "  embedding                         32,768,000",
    "  experts                          805,797,888",
    "  total                            964,749,312",
    "  on one device                    259,676,160",
]


def text(plan: Plan, *settings: str) -> list[str]:
    return plan_page("m15.json", load_run(ROOT / "ds_configs/m15.json", settings), plan, "given").text().splitlines()


def test_experts_spread_over_ranks() -> None:
    assert text(PLAN, "smoe.moe.ep_size=8") == [
        *HEAD,
        "  as the paper counts              963,903,488",
        "",
        "compute per token, uniform routing",
        "  requested capacity                     1.250",
        "  feed-forward networks/block            2.500",
        "  FLOPs (forward)                       657.0M  dense part as published",
        "",
        "expert parallelism",
        "  busiest rank / mean                    1.067  per stratum 1.00, 1.33",
        "  sent per rank and step            840.00 MiB",
        "",
        "memory per device, a full micro-batch of 8,192 tokens (estimate)",
        "  weights                             1.00 GiB",
        "  update                              1.00 MiB  not beside the three above",
        "  activations                         2.00 MiB  experts computed by the loop backend",
        "  total                               3.00 GiB  backward pass or update, whichever is larger",
    ]


def test_measured_offloaded_and_unlike_the_paper() -> None:
    plan = replace(
        PLAN,
        paper_parameters=None,
        measured_requested_capacity=1.5,
        measured_flops_per_token=700_000_000,
        dense_flops="own",
        memory={"total": 2**30},
        host_memory={"master_weights": 2**28, "frozen_weights": 2**28, "total": 2**29},
    )
    assert text(plan, "smoe.moe.ep_size=1")[8:] == [
        "",
        "compute per token, uniform routing",
        "  requested capacity                     1.250",
        "  feed-forward networks/block            2.500",
        "  FLOPs (forward)                       657.0M  matrix products, no attention scores",
        "  requested capacity, measured           1.500",
        "  FLOPs at that (forward)               700.0M",
        "",
        "memory per device, a full micro-batch of 8,192 tokens (estimate)",
        "  total                               1.00 GiB  backward pass or update, whichever is larger",
        "",
        "memory on the host per rank",
        "  master weights                    256.00 MiB  offload",
        "  frozen weights                    256.00 MiB  in fp32, so that checkpoints have them as they were loaded",
        "  total                             512.00 MiB",
    ]


def test_a_dense_model_has_no_requested_capacity() -> None:
    lines = text(PLAN, "smoe.moe.strata=[]", "smoe.moe.ep_size=1")
    assert lines[9:12] == [
        "",
        "compute per token, uniform routing",
        f"{'  FLOPs (forward)':<40}657.0M  dense part as published",
    ]
    assert not any("requested capacity" in line or "expert parallelism" in line for line in lines)


def test_a_plan_as_json() -> None:
    assert Plan(**json.loads(json.dumps(PLAN.as_json()))) == PLAN


def test_the_paper_s_tables() -> None:
    rows = [
        PaperRow("M4", "Dense", 60_100_000, 167_000_000, 60_000_000, 167_000_000, 1_000_000),
        PaperRow("M15", "CMR", 1_014_200_000, 700_000_000, 1_010_000_000, 706_500_000, 10_000_000, "slip"),
    ]
    assert paper_page(rows).text().splitlines() == [
        "system    parameters (M)  published    off  FLOPs/token (M)  published     off",
        "--------  --------------  ---------  -----  ---------------  ---------  ------",
        "M4 Dense            60.1       60.0    0.1            167.0      167.0     0.0",
        "--------  --------------  ---------  -----  ---------------  ---------  ------",
        "M15 CMR           1014.2     1010.0  4.2 ~            700.0      706.5  -6.5 *",
        "",
        "* differs from the paper's own way of counting:",
        "  M15 CMR: slip",
        "~ within the published rounding: the paper rounds to 1M, above 1,000M to 10M:",
        "  M15 CMR: 1,014.2M is published as 1.01B",
    ]
    assert [row["system"] for row in paper_table(rows).as_json()] == ["M4 Dense", "M15 CMR"]


def test_rows_of_the_paper_survive_json() -> None:
    rows = paper_rows()
    assert [PaperRow(**json.loads(json.dumps(row.as_json()))) for row in rows] == rows
