"""The short way of evaluation: the same output as with statistics, for every router and option."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smoe_ds.config.routers import ROUTERS
from smoe_ds.errors import NonFiniteError
from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.inference import mix_choices
from tests.helpers.layers import add_noise
from tests.helpers.router_cases import VOCAB, D, F, router_layer, sentences

LANGUAGES = {"tasks": VOCAB, "by": "target"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "top_k": ({"kind": "top_k"}, {}),
    "top_k 3, raw": ({"kind": "top_k"}, {"top_k": 3, "combine_weights": "raw"}),
    "top_k 1": ({"kind": "top_k"}, {"top_k": 1}),
    "before the drop": ({"kind": "top_k"}, {"combine_weights": "before_drop"}),
    "capacity": ({"kind": "top_k"}, {"capacity_factor": 0.4, "capacity_order": "probability"}),
    "cosine": ({"kind": "top_k"}, {"gate_scores": "cosine"}),
    "bias": ({"kind": "top_k"}, {"bias_balancing": 0.05}),
    "stacked": ({"kind": "top_k"}, {"stacked": True}),
    "stacked, released": ({"kind": "top_k"}, {"stacked": True, "norm": "released"}),
    "released": ({"kind": "top_k"}, {"norm": "released"}),
    "masking": ({"kind": "top_k"}, {"expert_output_masking": 0.3, "final_output_masking": 0.2}),
    "cmr": ({"kind": "top_k"}, {"shared_expert": "cmr"}),
    "residual": ({"kind": "top_k"}, {"shared_expert": "residual"}),
    "heads": ({"kind": "top_k"}, {"heads": 2}),
    "adapters": ({"kind": "top_k"}, {"experts": {"kind": "adapters", "rank": 3}}),
    "mpo": ({"kind": "top_k"}, {"experts": {"kind": "mpo"}}),
    "loop": ({"kind": "top_k"}, {"expert_backend": "loop", "activation": "swiglu"}),
    "lean": ({"kind": "top_k"}, {"expert_backend": "lean"}),
    "top_p": ({"kind": "top_p", "threshold": 0.6}, {"capacity_factor": None}),
    "random, fixed": ({"kind": "random", "at_evaluation": "fixed"}, {}),
    "task": ({"kind": "task", **LANGUAGES}, {}),
    "task, pairs": ({"kind": "task", **LANGUAGES, "by": "pair"}, {}),
    "task, sentences": ({"kind": "task", "by": "sentence"}, {}),
}
# Those that no case above has by their defaults.
DEFAULTS = {section.model_fields["kind"].default for section in ROUTERS} - {"top_k", "top_p", "task"}
CASES |= {kind: ({"kind": kind}, {"capacity_factor": None}) for kind in sorted(DEFAULTS)}


def layer_of(case: str) -> StratifiedMoE:
    router, settings = CASES[case]
    layer = router_layer([4, 2, 4], router, **settings).eval()
    for steps_E in layer.bias_steps():
        steps_E += torch.arange(len(steps_E))
    return layer


def both_ways(layer: StratifiedMoE, padding: Tensor | None) -> tuple[Tensor, Tensor]:
    """The outputs with statistics and without."""
    x, ids, _ = sentences(4)
    pair = torch.tensor([[5, 6], [7, 5], [6, 7]])
    inputs = x, padding, None if padding is None else int((~padding).sum()), ids, None, pair
    before = x.clone()
    with torch.inference_mode():
        expected, stats = layer(*inputs)
        found, nothing = layer(*inputs, stats=False)
    assert stats is not None and torch.equal(x, before)
    assert (nothing is None) == (layer.block.expert_backend != "lean")
    return expected, found


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_the_output_is_the_same(case: str, padded: bool) -> None:
    layer = layer_of(case)
    expected, found = both_ways(layer, sentences(4)[2] if padded else None)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert (found - sentences(4)[0]).abs().max() > 0.1


def test_a_single_token_and_none() -> None:
    layer = layer_of("top_k")
    with torch.inference_mode():
        for number in (0, 1):
            x = sentences()[0][0, :number]
            torch.testing.assert_close(layer(x, stats=False)[0], layer(x)[0], rtol=1e-12, atol=1e-12)


def test_weights_are_not_rounded_to_half_precision() -> None:
    h = torch.ones(1, 4, dtype=torch.bfloat16)
    weights = torch.tensor([[0.501, 0.499]])
    found = mix_choices([lambda x: x, lambda x: -x], h, weights, [0, 1])
    assert found.dtype == torch.bfloat16 and found.float().mean().item() == pytest.approx(0.002, rel=0.01)


def test_half_precision_gives_what_it_gives_with_statistics() -> None:
    layer = StratifiedMoE(D, F, [4, 4], seed=3)
    add_noise(layer, 0.3)
    layer = layer.bfloat16().eval()
    x = sentences()[0].bfloat16()
    with torch.inference_mode():
        found, expected = layer(x, stats=False)[0], layer(x)[0]
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("way", ["training", "with gradient"])
def test_whoever_learns_takes_the_long_way(way: str) -> None:
    layer = layer_of("top_k").train(way == "training")
    with torch.set_grad_enabled(way == "with gradient"):
        assert layer(sentences()[0], stats=False)[1] is not None


def test_bad_input_is_refused_as_ever() -> None:
    layer = layer_of("top_k")
    x, _, padding = sentences()
    with torch.inference_mode():
        with pytest.raises(ValueError, match=r"num_tokens is 5, but 20 positions are not padding"):
            layer(x, padding, 5, stats=False)
        for broken in (x, layer.gates[0]):
            kept = broken[0, 0].clone()
            broken[0, 0] = torch.nan
            with pytest.raises(NonFiniteError, match="stratum 0 holds NaN"):
                layer(x, stats=False)
            broken[0, 0] = kept
        layer(x, stats=False)


def test_a_choice_that_is_not_taken_reaches_no_expert() -> None:
    class Refuses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 0

    chosen = torch.tensor([[True, False], [True, True]])
    h, weights = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    experts = [Refuses(), lambda x: 10 * x, lambda x: -x]
    found = mix_choices(experts, h, weights, [1, 0, 2, 1], chosen)
    assert found.tolist() == [[20.0, 40.0], [-3.0 + 90.0, -4.0 + 120.0]]
