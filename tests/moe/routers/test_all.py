"""What holds for every router that is registered, each with its default settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.config.routers import ROUTERS, RouterSection
from smoe_ds.model.transformer import Transformer
from smoe_ds.model.transformer_cost import MicroBatch, transformer
from tests.helpers.forced_decoding import assert_steps_are_forced_decoding
from tests.helpers.router_cases import D, router_layer, sentences

KINDS = {section.model_fields["kind"].default: section for section in ROUTERS}
IN_DECODERS = [kind for kind, section in KINDS.items() if section().problem_on("decoder") is None]
MODEL = ModelConfig(
    d_model=8, d_ffn=12, num_heads=2, encoder_layers=2, decoder_layers=2, dropout=0.0, attention_dropout=0.0
)
STRATA = [3, 3]


def settings(section: type[RouterSection]) -> dict[str, Any]:
    return (
        {"router": section(), "capacity_factor": None} if "capacity_factor" in section.heeds else {"router": section()}
    )


def moe_of(kind: str) -> MoeConfig:
    """Blocks with the router where it can be, others elsewhere."""
    section = KINDS[kind]
    if kind in IN_DECODERS:
        return MoeConfig(strata=STRATA, **settings(section))
    return MoeConfig(strata=STRATA, layers={"encoder.*": settings(section)})


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind: str) -> None:
    layer = router_layer(STRATA, KINDS[kind]()).eval()
    x, ids, padding = sentences()
    with torch.no_grad():
        y, stats = layer(x, padding, None, ids)
        other, again = layer(x.masked_fill(padding.unsqueeze(2), 9.0), padding, None, ids)
    assert torch.equal(y[~padding], other[~padding])
    assert torch.equal(stats.requested_capacity, again.requested_capacity)
    assert torch.equal(y[padding], x[padding])


@pytest.mark.parametrize("kind", KINDS)
def test_a_sentence_does_not_depend_on_the_others_of_its_batch(kind: str) -> None:
    layer = router_layer(STRATA, KINDS[kind]()).eval()
    x, ids, padding = sentences()
    with torch.no_grad():
        together, _ = layer(x, padding, None, ids)
        for n in range(len(x)):
            alone, _ = layer(x[n : n + 1], padding[n : n + 1], None, ids[n : n + 1])
            torch.testing.assert_close(alone[0], together[n], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_no_token_at_all(kind: str, training: bool) -> None:
    layer = router_layer(STRATA, KINDS[kind]()).train(training)
    x = torch.randn(1, 2, D, dtype=torch.float64, requires_grad=True)
    y, stats = layer(x, torch.ones(1, 2, dtype=torch.bool), 0, torch.zeros(1, 2, dtype=torch.long))
    assert torch.equal(y, x)
    assert stats.requested_capacity.sum() == 0
    y.sum().backward()


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_counts_the_parameters_of_the_model(kind: str) -> None:
    moe = moe_of(kind)
    model = Transformer(MODEL, moe, 40)
    planned = transformer(MODEL, moe, 40, MicroBatch(8)).total.parameters
    assert sum(planned.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step_decoding_is_forced_decoding(kind: str) -> None:
    model = Transformer(MODEL, moe_of(kind), 40, seed=2).double().eval()
    generator = torch.Generator().manual_seed(4)
    src = torch.randint(4, 40, (3, 6), generator=generator)
    tgt = torch.randint(4, 40, (3, 5), generator=generator)
    src[1, 4:] = 0
    assert_steps_are_forced_decoding(model, src, tgt)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_survive_the_way_through_a_file(kind: str) -> None:
    block = BlockSettings(strata=STRATA, **settings(KINDS[kind]))
    assert BlockSettings.model_validate(block.model_dump(mode="json")) == block
