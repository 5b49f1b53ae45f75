"""Which way of computing the experts is taken, and which are refused."""

from __future__ import annotations

import pytest
import torch

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.backends import choose_backend
from smoe_ds.moe.experts import ExpertFFN

CPU = torch.device("cpu")


def experts(width: int = 16) -> list[ExpertFFN]:
    return [ExpertFFN(width, 32) for _ in range(2)]


def choose(setting: str, made: list, dtype: torch.dtype = torch.float32, *, one_rank: bool = True) -> str:
    return choose_backend(setting, made, CPU, dtype, one_rank=one_rank)


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
        ([ExpertFFN(16, 32), ExpertFFN(16, 64)], "differ in activation or width"),
        ([ExpertFFN(16, 32), ExpertFFN(16, 32, "gelu")], "differ in activation or width"),
    ):
        assert choose("auto", made) == "loop"
        with pytest.raises(ValueError, match=reason):
            choose("lean", made)
    with pytest.raises(ValueError, match=r"float64"):
        choose("grouped", experts(), torch.float64)
    with pytest.raises(ValueError, match="multiples of 4"):
        choose("grouped", experts(6))
    with pytest.raises(ValueError, match=r"'lean' does not work.*spread over ranks"):
        choose("lean", experts(), one_rank=False)


def test_automatic_choice_on_a_processor() -> None:
    assert choose("auto", experts(), torch.bfloat16) == "lean"
    assert choose("auto", experts(6), torch.float64) == "lean"
    assert choose("auto", experts(), one_rank=False) == "loop"
    assert choose("auto", [torch.nn.Linear(2, 2)]) == "loop"
    with torch.autocast("cpu", torch.bfloat16):
        assert choose("auto", experts()) == "loop"


def test_a_layer_knows_its_own() -> None:
    assert StratifiedMoE(16, 32, [2, 2]).backend(CPU, torch.float32) == "lean"
    assert StratifiedMoE(16, 32, [2, 2], ep_size=2, ep_rank=1).backend(CPU, torch.float32) == "loop"
    own = StratifiedMoE(16, 32, [2, 2], expert=lambda: torch.nn.Linear(16, 16))
    assert own.backend(CPU, torch.float32) == "loop"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_automatic_choice_on_hopper_is_grouped() -> None:
    device = torch.device("cuda")
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("no fast kernel on this GPU")
    assert choose_backend("auto", experts(), device, torch.bfloat16, one_rank=True) == "grouped"
    assert choose_backend("auto", experts(), device, torch.float16, one_rank=True) == "lean"
