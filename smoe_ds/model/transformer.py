"""The translation model: shared embedding, encoder, decoder; single-device code that knows nothing of ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.model.attention import Attention, attention_mask
from smoe_ds.model.embedding import SharedEmbedding
from smoe_ds.model.feed_forward import DenseFeedForward, MoeFactory, moe_factory
from smoe_ds.model.layers import DecoderLayer, EncoderLayer, LayerCache
from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.stats import BlockStats

PAD_ID = 0


@dataclass(frozen=True)
class Encoded:
    """Encoder output.

    Attributes:
        memory: [B, S, D].
        padding_mask: [B, S], True = padding.
        stats: one entry per stratified block of the encoder.
    """

    memory: Tensor
    padding_mask: Tensor
    stats: list[BlockStats]

    def select(self, index: Tensor) -> Encoded:
        """Rows ``index`` of the batch; an index may repeat."""
        return Encoded(self.memory.index_select(0, index), self.padding_mask.index_select(0, index), self.stats)


@dataclass
class DecoderCache:
    """State of step-by-step decoding.

    Attributes:
        layers: keys and values per decoder layer.
        memory_mask: attention mask of the source [B, 1, 1, S].
        position: tokens decoded so far.
    """

    layers: list[LayerCache]
    memory_mask: Tensor
    position: int = 0

    def reorder(self, index: Tensor) -> None:
        """Keep rows ``index`` [B'] of the batch, in that order; an index may repeat or be left out."""
        self.layers = [layer.select(index) for layer in self.layers]
        self.memory_mask = self.memory_mask.index_select(0, index)


class Transformer(nn.Module):
    """Pre-norm encoder-decoder; every ``moe.every``-th layer's feed-forward network is a stratified block.

    Args:
        config: sizes and regularisation.
        moe: the stratified blocks; ``strata: []`` makes a dense model.
        vocab_size: V.
        seed: the initial weights are a function of (seed, parameter name) alone.
        make_moe: builds the block of a given name; default: all experts on this device.

    Attributes:
        activation_checkpointing: keep only each layer's inputs for the backward pass; may be set at any time.
    """

    def __init__(
        self, config: ModelConfig, moe: MoeConfig, vocab_size: int, *, seed: int = 1, make_moe: MoeFactory | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = False
        make = make_moe or moe_factory(config, moe, seed)

        def ffn(side: str, layer: int) -> nn.Module:
            if moe.is_dense or (layer + 1) % moe.every:
                return DenseFeedForward(config)
            return make(f"{side}.layers.{layer}.ffn")

        self.embedding = SharedEmbedding(vocab_size, config.d_model, config.max_positions, PAD_ID)
        self.encoder = _Stack(config, EncoderLayer, [ffn("encoder", i) for i in range(config.encoder_layers)])
        self.decoder = _Stack(config, DecoderLayer, [ffn("decoder", i) for i in range(config.decoder_layers)])
        self._initialize(seed)

    def _initialize(self, seed: int) -> None:
        blocks = {name for name, module in self.named_modules() if isinstance(module, StratifiedMoE)}
        for name, module in self.named_modules():
            inside_block = any(name.startswith(f"{block}.") for block in blocks)
            if isinstance(module, SharedEmbedding | Attention | ExpertFFN) and not inside_block:
                module.initialize(seed, name)

    def forward(
        self, src: Tensor, tgt_in: Tensor, num_src_tokens: int | None = None, num_tgt_tokens: int | None = None
    ) -> tuple[Tensor, list[BlockStats]]:
        """Logits of every target position.

        Args:
            src: source token ids [B, S], padded on the right with 0.
            tgt_in: decoder input [B, T], padded on the right with 0.
            num_src_tokens: tokens in ``src`` that are no padding; None: each stratified block counts them, which on a
                GPU is one more wait.
            num_tgt_tokens: the same of ``tgt_in``.

        Returns:
            Logits [B, T, V] and the statistics of each stratified block, encoder first.
        """
        encoded = self.encode(src, num_src_tokens)
        padding_mask = tgt_in == PAD_ID
        memory_mask = attention_mask(encoded.padding_mask)
        x = self._embed(tgt_in)
        stats = list(encoded.stats)
        for layer in self.decoder.layers:
            x, block = self._through(layer, x, encoded.memory, memory_mask, padding_mask, num_tgt_tokens)
            if block is not None:
                stats.append(block)
        return self.embedding.project(self.decoder.norm(x)), stats

    def encode(self, src: Tensor, num_tokens: int | None = None) -> Encoded:
        """Encode source token ids [B, S], ``num_tokens`` of them no padding if that is known."""
        padding_mask = src == PAD_ID
        mask = attention_mask(padding_mask)
        x, stats = self._embed(src), []
        for layer in self.encoder.layers:
            x, block = self._through(layer, x, mask, padding_mask, num_tokens)
            if block is not None:
                stats.append(block)
        return Encoded(self.encoder.norm(x), padding_mask, stats)

    def start_decoding(self, encoded: Encoded) -> DecoderCache:
        """Cache for ``decode_step``: the source's keys and values of every layer, computed once."""
        layers = [
            LayerCache(None, layer.cross_attention.keys_and_values(encoded.memory)) for layer in self._decoder_layers
        ]
        return DecoderCache(layers, attention_mask(encoded.padding_mask))

    def decode_step(self, tokens: Tensor, cache: DecoderCache) -> Tensor:
        """Logits of the next token.

        Args:
            tokens: the last token of every hypothesis [B] (the start token at first).
            cache: extended by this step.

        Returns:
            [B, V].
        """
        x = self._embed(tokens.unsqueeze(1), cache.position)
        for layer, layer_cache in zip(self._decoder_layers, cache.layers, strict=True):
            x = layer.step(x, layer_cache, cache.memory_mask)
        cache.position += 1
        return self.embedding.project(self.decoder.norm(x)).squeeze(1)

    def _through(self, layer: nn.Module, *inputs: Tensor | int | None) -> tuple[Tensor, BlockStats | None]:
        """One layer; with activation checkpointing only its inputs are kept, and the backward pass computes it again
        with the same random numbers, hence the same routing."""
        if self.activation_checkpointing and self.training and torch.is_grad_enabled():
            out: tuple[Tensor, BlockStats | None] = checkpoint(layer, *inputs, use_reentrant=False)
            return out
        out = layer(*inputs)
        return out

    @property
    def _decoder_layers(self) -> list[DecoderLayer]:
        return cast(list[DecoderLayer], list(self.decoder.layers))

    def _embed(self, token_ids: Tensor, start: int = 0) -> Tensor:
        return F.dropout(self.embedding(token_ids, start), self.config.dropout, self.training)


class _Stack(nn.Module):
    """Layers and the final LayerNorm of a pre-norm stack."""

    def __init__(
        self, config: ModelConfig, layer: Callable[[ModelConfig, nn.Module], nn.Module], ffns: list[nn.Module]
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer(config, ffn) for ffn in ffns)
        self.norm = nn.LayerNorm(config.d_model)
