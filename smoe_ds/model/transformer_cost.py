"""What the transformer costs, module by module: embedding, attention, feed-forward network, layers.

Shape letters as in :mod:`smoe_ds.model`: ``B`` sentences, ``S`` source and ``T`` target positions, ``D`` model width,
``F`` feed-forward width, ``V`` vocabulary. Saved bytes hold for attention dropout of 0 or a fused kernel that keeps no
probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.moe.block_cost import BlockSizes, stratified_block
from smoe_ds.moe.cost import FP32, Cost, Storage, feed_forward, layer_norm, total

_SENTENCE = 32
"""Tokens of a sentence, where nobody says."""


@dataclass(frozen=True)
class MicroBatch:
    """What passes the model at once on one rank; both sides are as long.

    Attributes:
        tokens: positions of a side, B x S = B x T.
        length: of a sentence, for the attention scores; 0 leaves them out.
        storage: of the tensors.
    """

    tokens: float
    length: float = 0.0
    storage: Storage = FP32


def wide(d_model: int, batch: MicroBatch) -> Cost:
    """A tensor [T, D] that is kept."""
    return Cost(saved_bytes=batch.tokens * d_model * batch.storage.itemsize)


def dropout(d_model: int, batch: MicroBatch) -> Cost:
    """Dropout of a tensor [T, D]."""
    return Cost(saved_bytes=batch.tokens * d_model * batch.storage.dropout_bytes)


def attention(d_model: int, batch: MicroBatch) -> Cost:
    """:class:`smoe_ds.model.attention.Attention` with the LayerNorm before it and the dropout behind it.

    It keeps LayerNorm's input and output, queries, keys, values and what it attended to. Self- and cross-attention cost
    the same, since both sides are as long; the encoder's output, which the latter's keys and values are made of, is one
    tensor for all layers and counted in :func:`transformer`.

    Args:
        d_model: D.
        batch: what passes.
    """
    matrices = 4 * d_model**2
    projections = Cost(
        parameters={"attention": matrices + 4 * d_model},
        matrices=matrices,
        flops={"attention": 2 * matrices * batch.tokens},
        score_flops=4 * batch.tokens * batch.length * d_model,
        saved_bytes=5 * batch.tokens * d_model * batch.storage.itemsize,
    )
    return layer_norm(d_model, batch.tokens, batch.storage) + projections + dropout(d_model, batch)


def dense_feed_forward(model: ModelConfig, batch: MicroBatch) -> Cost:
    """:class:`smoe_ds.model.feed_forward.DenseFeedForward`: LayerNorm, feed-forward network, dropout."""
    norm = layer_norm(model.d_model, batch.tokens, batch.storage)
    network = feed_forward(model.d_model, model.d_ffn, model.activation, batch.tokens, batch.storage)
    return norm + wide(model.d_model, batch) + network


def language_gate(model: ModelConfig, batch: MicroBatch, *, own: bool) -> Cost:
    """:class:`smoe_ds.model.language_capacity.LanguageGate`, and each token's product with its language's matrix.

    Kept are the gate's input and inner values, and both projections; with a shared projection of its own, which is
    counted here, also what that works on.

    Args:
        model: widths.
        batch: what passes.
        own: whether it has a shared projection of its own.
    """
    if not model.language_capacity.languages:
        return Cost()
    d_model, width = model.d_model, model.language_capacity.gate_width
    tokens, itemsize, square = batch.tokens, batch.storage.itemsize, model.d_model**2
    return Cost(
        parameters={"gates": (d_model + 1) * width + width + 1, "feed_forward": square * own},
        matrices=square * own,
        flops={"gates": 2 * (d_model + 1) * width * tokens, "feed_forward": 2 * square * (1 + own) * tokens},
        saved_bytes=tokens * ((3 + own) * d_model + width) * itemsize,
    )


def language_projections(model: ModelConfig, batch: MicroBatch) -> Cost:
    """:class:`smoe_ds.model.language_capacity.LanguageProjections` of one stack, and a matrix for each sentence."""
    matrices = model.language_capacity.languages * model.d_model**2
    sentences = batch.tokens / (batch.length or _SENTENCE) if matrices else 0
    saved = sentences * model.d_model**2 * batch.storage.itemsize
    return Cost(parameters={"feed_forward": matrices}, matrices=matrices, saved_bytes=saved)


def embedding(model: ModelConfig, vocab_size: int, batch: MicroBatch) -> Cost:
    """The shared embedding of both sides, its projection to logits [T, V], and the loss.

    Kept are the projection's input, the logits, and their log-softmax in float32. The weight's gradient is a sum of
    dense ones [V, D], two of which are there beside it.

    Args:
        model: widths and dropout.
        vocab_size: V.
        batch: what passes.
    """
    weights = vocab_size * model.d_model
    both_masks = dropout(model.d_model, batch) + dropout(model.d_model, batch)
    projection = Cost(
        parameters={"embedding": weights},
        matrices=weights,
        flops={"embedding": 2 * weights * batch.tokens},
        saved_bytes=batch.tokens * vocab_size * (batch.storage.itemsize + 4),
        temporary_bytes=2 * weights * batch.storage.itemsize,
    )
    return both_masks + wide(model.d_model, batch) + projection


def block_sizes(model: ModelConfig, block: BlockSettings, ep_size: int = 1, backend: str = "lean") -> BlockSizes:
    """The sizes of a run's block; ``backend``: how its experts are computed."""
    return BlockSizes(model.d_model, block.inner_width(model.d_ffn), block, ep_size, model.activation, backend)


@dataclass(frozen=True)
class TransformerCost:
    """The costs of a transformer.

    Attributes:
        embedding: on both sides, with logits and loss.
        norms: LayerNorms behind encoder and decoder, the encoder's output, and the languages' matrices.
        layers: encoder first.
        layer_input: what activation checkpointing keeps of a layer.
    """

    embedding: Cost
    norms: Cost
    layers: tuple[Cost, ...]
    layer_input: Cost

    @property
    def total(self) -> Cost:
        """Of the whole model."""
        return self.embedding + self.norms + total(self.layers)

    def saved_bytes(self, *, checkpointing: bool = False) -> float:
        """Bytes that the backward pass finds saved; with activation checkpointing the layers' inputs, and all of the
        layer that is being computed again."""
        if not checkpointing:
            return self.total.saved_bytes
        inputs = len(self.layers) * self.layer_input.saved_bytes
        largest = max(layer.saved_bytes for layer in self.layers)
        return self.embedding.saved_bytes + self.norms.saved_bytes + inputs + largest


def transformer(
    model: ModelConfig,
    moe: MoeConfig,
    vocab_size: int,
    batch: MicroBatch,
    *,
    backend: str = "lean",
    forwards: int = 1,
    requested_capacity: float | None = None,
) -> TransformerCost:
    """A transformer with uniform routing, in one micro-batch of one rank.

    Args:
        model: sizes and dropout.
        moe: the stratified blocks.
        vocab_size: V.
        batch: what passes; none of its positions is padding.
        backend: how experts are computed.
        forwards: forward passes per backward pass, for the exchange: 2 with activation checkpointing.
        requested_capacity: mean strata per token where it was measured.
    """
    dense, after = dense_feed_forward(model, batch), language_gate(model, batch, own=True)
    blocks = {
        name: _block(block_sizes(model, block, moe.ep_size, backend), batch, forwards, requested_capacity)
        for name, block in moe.blocks(model).items()
    }

    def stack(side: str, number: int, attentions: Cost) -> list[Cost]:
        return [attentions + blocks.get(f"{side}.layers.{i}.ffn", dense) + after for i in range(number)]

    attended = attention(model.d_model, batch) + language_gate(model, batch, own=False)
    languages = language_projections(model, batch)
    norm = layer_norm(model.d_model, batch.tokens, batch.storage)
    return TransformerCost(
        embedding(model, vocab_size, batch),
        norm + norm + wide(model.d_model, batch) + languages + languages,
        (
            *stack("encoder", model.encoder_layers, attended),
            *stack("decoder", model.decoder_layers, attended + attended),
        ),
        wide(model.d_model, batch),
    )


def _block(sizes: BlockSizes, batch: MicroBatch, forwards: int, requested_capacity: float | None) -> Cost:
    return stratified_block(sizes, sizes.loads(batch.tokens, requested_capacity), batch.storage, forwards)
