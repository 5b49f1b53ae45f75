"""A block with heads against the plain block of slices between two linear maps, and against a loop over tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.heads import inner_sizes
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.heads import Heads
from smoe_ds.moe.losses import load_balancing_loss
from smoe_ds.weights.pruned import placement_of, prune_weights, pruned_factory, renumbered
from tests.helpers.forced_decoding import assert_steps_are_forced_decoding
from tests.helpers.layers import add_noise, naive_slices, noisy_layer
from tests.helpers.naive_moe import NaiveResult, Settings, naive_stratified_moe

D, F, S, H = 12, 10, 7, 3
CASES: dict[str, dict[str, Any]] = {
    "one stratum": {"strata": [4]},
    "strata": {"strata": [3, 3]},
    "three strata, capacity": {"strata": [2, 2, 3], "capacity_factor": 0.7},
    "cmr": {"strata": [4], "shared_expert": "cmr", "cmr_gate_dropout": 0.3},
    "stacked": {"strata": [2, 3], "stacked": True, "expert_ffn": 5},
    "released": {"strata": [2, 3], "norm": "released", "dropout": 0.2},
}


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, S, D, generator=generator, dtype=torch.float64, requires_grad=True)
    return x, torch.arange(S) >= torch.tensor([[S], [S - 3]])


def heads_loop(layer: StratifiedMoE, settings: Settings, x: Tensor, padding: Tensor) -> tuple[Tensor, NaiveResult]:
    """The sum of the projections by rows of their matrices, around the loop over slices."""
    weights = layer.state_dict(keep_vars=True)
    slices = naive_slices(layer, x.reshape(-1, D))
    masked = [bool(flag) for flag in padding.reshape(-1) for _ in range(layer.block.heads)]
    found = naive_stratified_moe(weights, settings, slices, masked, training=layer.training)
    rows = []
    for n, token in enumerate(x.reshape(-1, D)):
        merged = torch.cat([found.y[n * layer.block.heads + j] for j in range(layer.block.heads)])
        rows.append(token + weights["heads.merge.weight"] @ merged + weights["heads.merge.bias"])
    return torch.stack(rows).view(x.shape), found


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_loop(name: str, training: bool) -> None:
    options = {"second_expert": "argmax", **CASES[name]}
    layer = noisy_layer(D, F, options.pop("strata"), heads=H, **options).train(training)
    options.pop("expert_ffn", None)
    x, padding = inputs()
    torch.manual_seed(5)
    y, stats = layer(x, padding, int((~padding).sum()))
    torch.manual_seed(5)
    expected, found = heads_loop(layer, Settings(strata=layer.block.strata, **options), x, padding)
    torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-12)
    passes = torch.tensor(found.requested_capacity).view(2, S, H).sum(-1)
    assert torch.equal(stats.requested_capacity, passes)
    assert stats.requested_capacity.dtype == torch.int64
    assert stats.heads == H and stats.num_tokens == H * int((~padding).sum())
    assert stats.num_passes == int(passes.sum())
    target = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    leaves = [x, *layer.parameters()]
    grads = [
        torch.autograd.grad((out * target).sum() + loss, leaves, allow_unused=True, retain_graph=True)
        for out, loss in ((y, load_balancing_loss([stats])), (expected, found.balance_loss))
    ]
    for got, wanted, leaf in zip(*grads, leaves, strict=True):
        zero = torch.zeros_like(leaf)
        torch.testing.assert_close(zero if got is None else got, zero if wanted is None else wanted)


def test_one_expert_between_identities_is_its_network_on_every_slice() -> None:
    layer = noisy_layer(D, F, [1], 1, heads=H, expert_ffn=8)
    assert layer.heads is not None
    for linear in (layer.heads.split, layer.heads.merge):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    x, _ = inputs()
    slices = layer.heads.norm(x).unflatten(-1, (H, D // H))
    expected = x + (slices + layer.experts["0"](layer.norms[0](slices))).flatten(-2)
    torch.testing.assert_close(layer(x)[0], expected, rtol=1e-12, atol=1e-12)


def test_one_head_is_the_plain_block_between_two_linear_maps() -> None:
    plain = noisy_layer(D, F, [3, 3])
    heads = Heads(D, 1, 1e-5).double()
    add_noise(heads, 0.3)
    x, padding = inputs()
    y, stats = heads(x, plain, padding, None, None, None, None)
    inner, plain_stats = plain(heads.split(heads.norm(x)), padding)
    torch.testing.assert_close(y, x + heads.merge(inner), rtol=1e-12, atol=1e-12)
    assert torch.equal(stats.requested_capacity, plain_stats.requested_capacity)


def test_without_heads_nothing_has_another_name_or_value() -> None:
    layer, again = StratifiedMoE(D, F, [2, 2]), StratifiedMoE(D, F, [2, 2], heads=1)
    assert not [name for name, _ in layer.named_parameters() if "heads" in name]
    for (name, one), (other_name, other) in zip(layer.named_parameters(), again.named_parameters(), strict=True):
        assert name == other_name and torch.equal(one, other)


@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_parity_of_parameters(activation: str) -> None:
    """As many matrix entries as without heads, gates aside; what is missing is less than 8 rows of each matrix."""
    matrices = ("w1", "w2", "w3", "split.weight", "merge.weight")
    layers = [StratifiedMoE(48, 96, [4, 3], activation=activation, heads=heads) for heads in (1, 4)]
    sizes = [sum(p.numel() for name, p in layer.named_parameters() if name.endswith(matrices)) for layer in layers]
    assert 0 <= sizes[0] - sizes[1] < 8 * 7 * (3 if activation == "swiglu" else 2) * 12
    block = BlockSettings(strata=[8], heads=4)
    assert inner_sizes(block, 512, 2048, "relu") == (128, 4 * (2048 - 64))


def test_padding_reaches_no_expert_and_ids_belong_to_slices() -> None:
    layer = StratifiedMoE(D, F, [3, 3], router={"kind": "hash"}, heads=H, capacity_factor=None).double()
    add_noise(layer, 0.3)
    x, padding = inputs()
    ids = torch.randint(4, 40, (2, S), generator=torch.Generator().manual_seed(2)).masked_fill(padding, 0)
    y, _ = layer(x, padding, None, ids)
    other, _ = layer(x.masked_fill(padding.unsqueeze(2), 9.0), padding, None, ids)
    assert torch.equal(y[~padding], other[~padding])
    _, stats = layer(x[:1, :1], None, None, ids[:1, :1])
    assert sorted(stats.strata[0].first_choice_E.tolist())[-1] == H  # one id, hence one expert for all of its slices


def test_a_wrong_number_of_tokens_is_told_in_positions() -> None:
    layer = noisy_layer(D, F, [3], heads=H)
    x, padding = inputs()
    with pytest.raises(ValueError, match="num_tokens is 13, but 11 positions are not padding"):
        layer(x, padding, 13)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, r"heads: 5 does not divide d_model 12; choose one of \[1, 2, 3, 4, 6, 12\]"),
        ({"heads": 2, "strata": [1], "top_k": 1}, "expert_ffn: two matrices of 12 x 12 leave nothing for 1 experts"),
    ],
    ids=["divisor", "parity"],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StratifiedMoE(12, 10, **{"strata": [4], **settings})
    with pytest.raises(ValueError, match=rf"moe\.{message.partition(':')[0]}: encoder"):
        SmoeConfig.model_validate(
            {
                "model": {"d_model": 12, "d_ffn": 10, "num_heads": 2},
                "moe": {"strata": [4], **settings},
                "data": {"path": "x"},
                "train": {"output_dir": "y"},
            }
        )


def test_step_by_step_decoding_is_forced_decoding() -> None:
    sizes: dict[str, Any] = {"d_model": 8, "d_ffn": 12, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2}
    moe = MoeConfig(strata=[3, 3], heads=2, final_output_masking=0.1, shared_expert="residual")
    model = Transformer(ModelConfig(**sizes, dropout=0.0, attention_dropout=0.0), moe, 40, seed=2).double().eval()
    generator = torch.Generator().manual_seed(4)
    src, tgt = (torch.randint(4, 40, (3, length), generator=generator) for length in (6, 5))
    src[1, 4:] = 0
    assert_steps_are_forced_decoding(model, src, tgt)


def test_experts_left_of_a_pruned_block_keep_their_width() -> None:
    config = ModelConfig(d_model=12, d_ffn=16, num_heads=2)
    moe = MoeConfig(strata=[3, 3], heads=2)
    whole = noisy_layer(12, 16, [3, 3], heads=2)
    placements, gone = {"block": placement_of(moe)}, {"block": [1, 4]}
    weights = {f"block.{name}": value for name, value in whole.state_dict().items()}
    inner = renumbered(prune_weights(weights, placements, gone), placements, gone)
    smaller = pruned_factory(config, 1, gone)("block", moe).double()
    smaller.load_state_dict({name.removeprefix("block."): tensor for name, tensor in inner.items()})
    assert torch.equal(smaller.experts["3"].w1, whole.experts["5"].w1)
