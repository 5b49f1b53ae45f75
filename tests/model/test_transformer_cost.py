"""What the transformer's modules say they cost, against the modules themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.config.language_capacity import LanguageCapacity
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.model import transformer_cost
from smoe_ds.model.embedding import SharedEmbedding
from smoe_ds.model.feed_forward import DenseFeedForward, Positions
from smoe_ds.model.layers import DecoderLayer, EncoderLayer
from smoe_ds.model.loss import translation_loss
from smoe_ds.model.transformer import PAD_ID, Transformer
from smoe_ds.model.transformer_cost import MicroBatch
from smoe_ds.moe.cost import Cost, Storage, layer_norm
from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.moe.loads import StratumLoad
from tests.helpers.counted import counted_bytes, counted_flops, counted_loads

SENTENCES, LENGTH, D, VOCAB = 16, 32, 64, 500
TOKENS = SENTENCES * LENGTH
STORAGES = {torch.float32: Storage(4, True, fused_dropout=False), torch.bfloat16: Storage(2, True, fused_dropout=False)}
SYSTEMS: dict[str, dict[str, Any]] = {
    "dense": {"strata": []},
    "vanilla": {"strata": [4]},
    "switch": {"strata": [4], "top_k": 1},
    "stacked": {"strata": [2, 2], "stacked": True},
    "smoe": {"strata": [2, 2]},
    "add": {"strata": [2, 2], "shared_expert": "add"},
    "cmr": {"strata": [4], "shared_expert": "cmr"},
    "residual": {"strata": [2, 2], "shared_expert": "residual"},
    "heads": {"strata": [4], "heads": 4},
    "languages": {"strata": [2, 2]},
    "languages, dense": {"strata": []},
    "every": {"strata": [2, 2], "every": 1},
    "released": {"strata": [2, 2], "norm": "released"},
}


LANGUAGES = LanguageCapacity(languages=5, gate_width=16)


def config(activation: str = "relu", **more: Any) -> ModelConfig:
    sizes = {"d_model": D, "d_ffn": 2 * D, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2}
    return ModelConfig(**sizes, activation=activation, dropout=0.1, attention_dropout=0.0, **more)


def batch_of(dtype: torch.dtype = torch.float32) -> MicroBatch:
    return MicroBatch(TOKENS, LENGTH, STORAGES[dtype])


def without_block() -> nn.Module:
    """In the place of a feed-forward network: nothing."""

    class Nothing(nn.Module):
        def forward(self, x: Tensor, *_: Any) -> tuple[Tensor, None]:
            return x, None

    return Nothing()


def encoder_attention(x: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    layer = EncoderLayer(config(), without_block()).to(x.dtype)
    mask = torch.zeros(SENTENCES, LENGTH, dtype=torch.bool)
    return layer, lambda: layer(x * 1, ~mask[:, None, None, :], Positions(mask))[0]


def decoder_attention(x: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    layer = DecoderLayer(config(), without_block()).to(x.dtype)
    mask = torch.zeros(SENTENCES, LENGTH, dtype=torch.bool)
    return layer, lambda: layer(x * 1, x, ~mask[:, None, None, :], Positions(mask))[0]


def dense_network(activation: str) -> Callable[[Tensor], tuple[nn.Module, Callable[[], Tensor]]]:
    def make(x: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
        network = DenseFeedForward(config(activation)).to(x.dtype)
        return network, lambda: network(x * 1)[0]

    return make


def norm(x: Tensor) -> tuple[nn.Module, Callable[[], Tensor]]:
    module = nn.LayerNorm(D).to(x.dtype)
    return module, lambda: module(x * 1)


def attentions(number: int) -> Callable[[MicroBatch], Cost]:
    """The cost of some; the second one's source is the layer's input, which is kept in any case."""

    def cost(batch: MicroBatch) -> Cost:
        one = transformer_cost.attention(D, batch)
        return one if number == 1 else one + one + transformer_cost.wide(D, batch)

    return cost


MODULES: dict[str, tuple[Any, Callable[[MicroBatch], Cost]]] = {
    "norm": (norm, lambda batch: layer_norm(D, batch.tokens, batch.storage)),
    "self": (encoder_attention, attentions(1)),
    "self and cross": (decoder_attention, attentions(2)),
    **{
        name: (dense_network(name), lambda batch, name=name: transformer_cost.dense_feed_forward(config(name), batch))
        for name in ("relu", "gelu", "swiglu")
    },
}


@pytest.mark.parametrize("dtype", STORAGES, ids=str)
@pytest.mark.parametrize("kind", MODULES)
def test_a_module_costs_what_it_says(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    make, cost_of = MODULES[kind]
    module, forward = make(torch.randn(SENTENCES, LENGTH, D, dtype=dtype, requires_grad=True))
    for part in module.modules():
        if isinstance(part, ExpertFFN):
            part.initialize("test", how="xavier")
    cost = cost_of(batch_of(dtype))
    assert sum(cost.parameters.values()) == sum(p.numel() for p in module.parameters())
    assert cost.matrices == sum(p.numel() for p in module.parameters() if p.dim() == 2)
    assert cost.flops_of() + cost.score_flops == counted_flops(forward)
    assert cost.saved_bytes == pytest.approx(counted_bytes(module, forward)[0], rel=0.05)


@pytest.mark.parametrize("dtype", STORAGES, ids=str)
def test_embedding_projection_and_loss_cost_what_they_say(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    table = SharedEmbedding(VOCAB, ModelConfig(d_model=D, max_positions=LENGTH), PAD_ID).to(dtype)
    tokens = torch.randint(4, VOCAB, (SENTENCES, LENGTH))

    def both_sides() -> tuple[Tensor, Tensor]:
        source, target = (F.dropout(table(tokens), 0.1) for _ in range(2))
        logits = table.project(source + target)
        return logits, translation_loss(logits, tokens, 0.1).smoothed

    cost = transformer_cost.embedding(config(), VOCAB, batch_of(dtype))
    kept, (logits, _) = counted_bytes(table, both_sides)
    assert cost.parameters == {"embedding": table.weight.numel()}
    assert cost.flops_of() == counted_flops(both_sides)
    assert cost.saved_bytes == pytest.approx(kept + logits.nbytes, rel=0.05)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_the_sum_of_the_modules_is_the_transformer(system: str, activation: str) -> None:
    """Exact in parameters and, with the tokens and rows that the blocks count, in FLOPs; near in what is kept."""
    torch.manual_seed(0)
    sizes = config(activation, language_capacity=LANGUAGES if system.startswith("languages") else LanguageCapacity())
    moe = MoeConfig(**SYSTEMS[system], capacity_factor=None)
    model = Transformer(sizes, moe, VOCAB)
    tokens = torch.randint(4, VOCAB, (SENTENCES, LENGTH))

    def loss() -> tuple[Tensor, Tensor, Any]:
        logits, stats = model(tokens, tokens)
        return logits, translation_loss(logits, tokens, 0.1).smoothed, stats

    kept, (logits, _, _) = counted_bytes(model, loss)
    uniform = transformer_cost.transformer(sizes, moe, VOCAB, batch_of())
    assert uniform.total.saved_bytes == pytest.approx(kept + logits.nbytes, rel=0.1)
    assert sum(uniform.total.parameters.values()) == sum(p.numel() for p in model.parameters())
    found: list[Any] = []
    flops = counted_flops(lambda: found.append(loss()[2]))
    everything = uniform.total.flops_of() + uniform.total.score_flops
    assert everything == pytest.approx(flops, rel=0.05)  # as if routing were uniform
    counted = iter([counted_loads(stats, moe.top_k) for stats in found[0]])
    exact = everything
    if not moe.is_dense:
        block = transformer_cost.block_sizes(sizes, moe.blocks(config())["encoder.layers.1.ffn"])
        expected: list[StratumLoad] = list(block.loads(TOKENS))
        for _ in found[0]:
            exact += transformer_cost.stratified_block(block, next(counted)).flops_of()
            exact -= transformer_cost.stratified_block(block, expected).flops_of()
    assert exact == pytest.approx(flops, rel=1e-12)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_activation_checkpointing_keeps_layer_inputs(activation: str) -> None:
    """Beside the inputs there is one layer at a time, which is computed again."""
    torch.manual_seed(0)
    model = Transformer(config(activation), MoeConfig(strata=[]), VOCAB).train()
    model.activation_checkpointing = True
    tokens = torch.randint(4, VOCAB, (SENTENCES, LENGTH))
    kept, (logits, _) = counted_bytes(model, lambda: model(tokens, tokens))
    cost = transformer_cost.transformer(config(activation), MoeConfig(strata=[]), VOCAB, batch_of())
    log_probs = 4 * TOKENS * VOCAB
    largest = max(layer.saved_bytes for layer in cost.layers)
    alone = cost.saved_bytes(checkpointing=True) - largest - log_probs - logits.nbytes
    assert alone == pytest.approx(kept, rel=0.1)
    assert alone < cost.saved_bytes() / 3
