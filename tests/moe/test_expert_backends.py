"""Which way of computing the experts is taken, and which are refused."""

from __future__ import annotations

import pytest
import torch

from smoe_ds.config import load_run
from smoe_ds.config.block import BlockSettings
from smoe_ds.errors import ConfigError
from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.expert_backend_here import accelerator_of, backend_here
from smoe_ds.moe.expert_backends import Accelerator, choose_backend
from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.planning.backend import planned_backend
from tests.helpers.environment import ROOT

CPU = torch.device("cpu")
V100, A100, H200 = (Accelerator("cuda", (major, 0)) for major in (7, 8, 9))


def experts(width: int = 16) -> list[ExpertFFN]:
    return [ExpertFFN(width, 32) for _ in range(2)]


def choose(setting: str, made: list, dtype: torch.dtype = torch.float32, *, ep_size: int = 1) -> str:
    return backend_here(BlockSettings(expert_backend=setting), made, CPU, dtype, ep_size=ep_size)


def test_what_cannot_work_is_refused_with_the_reason() -> None:
    for backend in ("grouped", "lean"):
        with pytest.raises(ValueError, match=r"not the built-in ones; use 'loop'"):
            choose(backend, [torch.nn.Linear(2, 2)])
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="autocast"):
            choose(backend, experts())

    class Derived(ExpertFFN):
        pass

    hooked = experts()
    hooked[1].register_forward_hook(lambda *_: None)
    for made, reason in (
        ([Derived(16, 32)], "not the built-in ones"),
        (hooked, "hooks on experts"),
        ([ExpertFFN(16, 32), ExpertFFN(16, 32, "gelu")], "differ in activation"),
    ):
        assert choose("auto", made) == "loop"
        with pytest.raises(ValueError, match=reason):
            choose("lean", made)
    uneven = [ExpertFFN(16, 32), ExpertFFN(16, 64)]
    assert (choose("auto", uneven), choose("lean", uneven)) == ("lean", "lean")
    with pytest.raises(ValueError, match=r"'grouped' does not work .* differ in width; use 'loop'"):
        choose("grouped", uneven)
    with pytest.raises(ValueError, match=r"float64"):
        choose("grouped", experts(), torch.float64)
    with pytest.raises(ValueError, match="multiples of 4"):
        choose("grouped", experts(6))
    with pytest.raises(ValueError, match=r"'lean' does not work.*spread over ranks"):
        choose("lean", experts(), ep_size=2)


def test_automatic_choice_on_a_processor() -> None:
    assert choose("auto", experts(), torch.bfloat16) == "lean"
    assert choose("auto", experts(6), torch.float64) == "lean"
    assert choose("auto", experts(), ep_size=2) == "loop"
    assert choose("auto", [torch.nn.Linear(2, 2)]) == "loop"
    with torch.autocast("cpu", torch.bfloat16):
        assert choose("auto", experts()) == "loop"


def test_a_layer_knows_its_own() -> None:
    assert StratifiedMoE(16, 32, [2, 2]).backend(CPU, torch.float32) == "lean"
    assert StratifiedMoE(16, 32, [2, 2], ep_size=2, ep_rank=1).backend(CPU, torch.float32) == "loop"
    own = StratifiedMoE(16, 32, [2, 2], expert=lambda: torch.nn.Linear(16, 16))
    assert own.backend(CPU, torch.float32) == "loop"


@pytest.mark.parametrize(
    ("accelerator", "dtype", "ep_size", "expected"),
    [
        (Accelerator("cpu"), "float32", 1, "lean"),
        (Accelerator("cpu"), "bfloat16", 1, "lean"),
        (V100, "float16", 1, "lean"),
        (A100, "bfloat16", 1, "lean"),
        (Accelerator("cuda"), "bfloat16", 1, "lean"),  # a device that nothing is known of
        (H200, "float16", 1, "lean"),
        (H200, "bfloat16", 1, "grouped"),
        (H200, "bfloat16", 4, "grouped"),
        (V100, "float16", 4, "loop"),
        (A100, "bfloat16", 4, "loop"),
    ],
    ids=str,
)
def test_automatic_choice_by_device_dtype_and_ranks(
    accelerator: Accelerator, dtype: str, ep_size: int, expected: str
) -> None:
    assert choose_backend("auto", accelerator, dtype, ep_size=ep_size, widths=(64, 128)) == expected
    for setting in ("loop", "grouped"):
        assert choose_backend(setting, accelerator, dtype, ep_size=ep_size, widths=(64, 128)) == setting


def test_what_stands_against_grouped_products_leads_to_the_next_way() -> None:
    assert choose_backend("auto", H200, "bfloat16", ep_size=1, widths=(60, 128)) == "lean"
    assert choose_backend("auto", H200, "bfloat16", ep_size=2, widths=(60, 128)) == "loop"
    trial = {"widths": (64, 128), "grouped_problem": lambda: "old torch"}
    assert choose_backend("auto", H200, "bfloat16", ep_size=1, **trial) == "lean"
    for ep_size, expected in ((1, "lean"), (2, "loop")):
        found = choose_backend("auto", H200, "bfloat16", ep_size=ep_size, widths=(64, 128), uneven=True)
        assert found == expected
    with pytest.raises(ValueError, match="'grouped' does not work for bfloat16 on cuda: old torch"):
        choose_backend("grouped", H200, "bfloat16", ep_size=1, **trial)


@pytest.mark.parametrize("bf16", ["true", "false"])
@pytest.mark.parametrize(
    ("setting", "ep_size"),
    [("auto", 1), ("loop", 1), ("lean", 1), ("grouped", 1), ("auto", 2), ("loop", 2), ("grouped", 2)],
)
def test_the_plan_chooses_what_the_layer_chooses(setting: str, ep_size: int, bf16: str) -> None:
    settings = [f"smoe.moe.expert_backend={setting}", f"smoe.moe.ep_size={ep_size}", f"bf16.enabled={bf16}"]
    run = load_run(ROOT / "ds_configs" / "m4.json", ["fp16.enabled=false", *settings])
    layer = StratifiedMoE(64, 128, [4, 4], expert_backend=setting, ep_size=ep_size, ep_rank=0)
    dtype = torch.bfloat16 if run.precision == "bf16" else torch.float32
    assert planned_backend(run, accelerator_of(CPU)) == layer.backend(CPU, dtype)


def test_the_plan_refuses_what_the_layer_refuses() -> None:
    settings = ["smoe.model.d_model=68", "smoe.model.num_heads=2", "smoe.moe.expert_backend=grouped"]
    run = load_run(ROOT / "ds_configs" / "m4.json", settings)
    message = r"m4.json: smoe.moe.expert_backend 'grouped' does not work .* multiples of 8; use 'loop'"
    with pytest.raises(ConfigError, match=message):
        planned_backend(run)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_automatic_choice_on_hopper_is_grouped() -> None:
    device = torch.device("cuda")
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("no fast kernel on this GPU")
    assert backend_here(BlockSettings(), experts(), device, torch.bfloat16, ep_size=1) == "grouped"
    assert backend_here(BlockSettings(), experts(), device, torch.float16, ep_size=1) == "lean"
