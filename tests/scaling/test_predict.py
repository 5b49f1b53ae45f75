"""The three recipes on 8 to 1,024 GPUs: an answer, or an error that says what to change; never a traceback."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from smoe_ds.config import RunConfig, load_run
from smoe_ds.errors import ConfigError
from smoe_ds.report.scaling import prediction_text, predictions_page
from smoe_ds.report.scaling_table import markdown
from smoe_ds.scaling.collectives import Topology
from smoe_ds.scaling.constants import Constant, Constants, assumed_constants, choose_constants
from smoe_ds.scaling.line import Line
from smoe_ds.scaling.predict import Prediction, constants_warnings, predict, predict_all
from tests.helpers.environment import ROOT

CONFIGS = ROOT / "ds_configs"
ENGINES = {"v100_fp16_zero1": "fp16", "v100_fp16_zero2_offload": "fp16", "h200_bf16_zero1": "bf16"}
NODES = [1, 2, 4, 8, 16, 32, 64, 128]


def run_of(recipe: str, *settings: str) -> RunConfig:
    return load_run(CONFIGS / f"{recipe}.json", settings)


def constants_of(precision: str) -> Constants:
    return choose_constants(precision, file=None, device=None, interconnect="ib-hdr", ports=1)


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("recipe", ["m4", "m15", "opus100"])
@pytest.mark.parametrize("ep_size", [1, 2, 4, 8, 16])
def test_every_combination_answers_or_says_why_not(recipe: str, engine: str, ep_size: int) -> None:
    extends = f"extends=engine/{engine}.json"
    if sum(run_of(recipe).smoe.moe.strata) % ep_size:
        with pytest.raises(ConfigError, match=f"ep_size: {ep_size} does not divide the 8 experts"):
            run_of(recipe, extends, f"smoe.moe.ep_size={ep_size}")
        return
    run = run_of(recipe, extends, f"smoe.moe.ep_size={ep_size}")
    topologies = [Topology(nodes, 8) for nodes in NODES]
    shared = predict_all(run, 32_000, constants_of(run.precision), topologies)
    grown = predict_all(run, 32_000, constants_of(run.precision), topologies, micro_batches=1)
    for topology, one, larger in zip(topologies, shared, grown, strict=True):
        problems = []
        if run.train_batch_size % topology.ranks:
            problems.append(f"cannot be shared by {topology.ranks} ranks; set it to {topology.ranks}")
        if topology.ranks % ep_size:
            problems.append(f"does not divide the {topology.ranks} ranks")
        for found, expected in ((one, problems), (larger, problems[-1:] if topology.ranks % ep_size else [])):
            if isinstance(found, Prediction):
                assert not expected
                assert 0 < found.step.seconds < 100
                assert found.fits
            else:
                assert all(part in found[1] for part in expected) and expected
    assert "predicted" in predictions_page(run, constants_of(run.precision), shared).text()


def test_more_devices_never_need_more_memory_or_time_for_the_same_batch() -> None:
    run = run_of("m15", "train_batch_size=1024")
    found = [predict(run, 32_000, constants_of("fp16"), Topology(nodes, 8)) for nodes in NODES]
    assert [one.memory for one in found] == sorted([one.memory for one in found], reverse=True)
    assert [one.step.seconds for one in found] == sorted([one.step.seconds for one in found], reverse=True)
    assert [one.efficiency for one in found] == sorted([one.efficiency for one in found], reverse=True)
    assert found[0].gpus == 8


def test_efficiency_is_that_of_one_device() -> None:
    run, one = run_of("m4", "train_batch_size=64"), Topology(1, 1)
    constants = constants_of("fp16")
    alone = predict(run, 32_000, constants, one)
    assert alone.efficiency == pytest.approx(1)
    many = predict(run, 32_000, constants, Topology(8, 8))
    assert many.efficiency == pytest.approx(alone.step.seconds / 64 / many.step.seconds)


def test_a_device_that_is_too_small_is_marked() -> None:
    run = run_of("m15")
    small = replace(constants_of("fp16"), memory_bytes=2**31)
    found = predict_all(run, 32_000, small, [Topology(1, 8), Topology(4, 8), Topology(8, 8)])
    text = predictions_page(run, small, found).text()
    assert text.count(" !") == 2
    assert "! more than the device has" in text
    assert re.search(r"^64 GPUs: .*m15.json: train_batch_size: 32 micro-batches", text, flags=re.MULTILINE)


def test_memory_is_that_of_the_way_experts_are_computed_on_the_device() -> None:
    """In bf16, an A100 computes experts the lean way, an H200 as grouped products that keep weights once more."""
    run = run_of("m15", "extends=engine/h200_bf16_zero1.json")
    a100, h200 = (predict(run, 32_000, assumed_constants(name, "bf16"), Topology(1, 8)) for name in ("a100", "h200"))
    lean = run_of("m15", "extends=engine/h200_bf16_zero1.json", "smoe.moe.expert_backend=lean")
    assert a100.memory == predict(lean, 32_000, assumed_constants("h200", "bf16"), Topology(1, 8)).memory
    assert h200.memory - a100.memory > 2 * 2**30


def test_text_marks_every_part() -> None:
    run = run_of("m15", "smoe.moe.ep_size=4")
    constants = constants_of("fp16")
    half = replace(constants, lines={**constants.lines, "dense": Constant(Line(1e-4, 1e13), True)})
    text = prediction_text(run, half, predict(run, 32_000, half, Topology(4, 8)))
    assert re.search(r"attention, dense layers, loss +\d\.\d{4}  measured", text)
    assert re.search(r"experts \(busiest rank\) +\d\.\d{4}  assumed", text)
    assert re.search(r"exchange of stratum 2 .* forward .* backward .* MiB sent per rank", text)
    assert re.search(r"dense +1.000e\+13 FLOP/s .* measured", text)
    assert "0.7 of 2.5e+10 byte/s (ib-hdr: InfiniBand" in text


def test_constants_unlike_the_run() -> None:
    run = run_of("m15")
    with pytest.raises(ConfigError, match="runs in fp16, the constants of H200 are of bf16; calibrate with this run"):
        predict(run, 32_000, assumed_constants("h200", "bf16"), Topology(1, 8))
    model = {"d_model": 1024, "d_ffn": 4096, "num_heads": 16, "activation": "relu", "vocab_size": 32_000}
    here = {"model": model, "ranks_per_host": 2, "cores": 2}
    measured = replace(constants_of("fp16"), circumstances=here)
    assert constants_warnings(run, measured, Topology(1, 8), 32_000) == []
    on_cpu = replace(measured, accelerator="cpu")
    assert "measured with 2 ranks on 2 cores" in constants_warnings(run, on_cpu, Topology(1, 8), 32_000)[0]
    assert constants_warnings(run, on_cpu, Topology(4, 2), 32_000) == []
    (warning,) = constants_warnings(run_of("m4"), measured, Topology(1, 8), 64_000)
    assert "d_model 1024 (here 512), d_ffn 4096 (here 2048), num_heads 16 (here 8), vocab_size 32000" in warning
    assert constants_warnings(run, constants_of("fp16"), Topology(1, 8), 32_000) == []


def test_the_tables_of_the_document_are_what_the_command_prints() -> None:
    document = (ROOT / "smoe_ds/scaling/README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- scaling -->\n(.*?)<!-- /scaling -->", document, flags=re.DOTALL)
    printed = list(markdown(CONFIGS))
    assert shown.splitlines() == printed[:-1] and printed[-1] == ""
