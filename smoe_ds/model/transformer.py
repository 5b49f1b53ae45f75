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
from smoe_ds.model.feed_forward import DenseFeedForward, MoeFactory, Positions, moe_factory
from smoe_ds.model.language_capacity import LanguageGate, LanguageProjections, Languages
from smoe_ds.model.layers import DecoderLayer, EncoderLayer, LayerCache
from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.stats import BlockStats, ModelStats

PAD_ID = 0


@dataclass(frozen=True)
class Encoded:
    """Encoder output.

    Attributes:
        memory: [B, S, D].
        padding_mask: [B, S], True = padding.
        first: first token of each source [B].
        stats: one entry per stratified block of the encoder, if they were asked for.
    """

    memory: Tensor
    padding_mask: Tensor
    first: Tensor
    stats: ModelStats

    def select(self, index: Tensor) -> Encoded:
        """Rows ``index`` of the batch; an index may repeat."""
        memory, mask, first = (part.index_select(0, index) for part in (self.memory, self.padding_mask, self.first))
        return Encoded(memory, mask, first, self.stats)


@dataclass
class DecoderCache:
    """State of step-by-step decoding.

    The rows of a step may be more than the sources: the same number for each source, neighbours.

    Attributes:
        layers: keys and values per decoder layer.
        memory_mask: attention mask of the sources [B, 1, 1, S].
        first: first token of each source [B].
        pair: first tokens of the source and of each hypothesis [R, 2]; None before the first step.
        position: tokens decoded so far.
    """

    layers: list[LayerCache]
    memory_mask: Tensor
    first: Tensor
    pair: Tensor | None = None
    position: int = 0

    def reorder(self, rows: Tensor, sources: Tensor | None) -> None:
        """Goes on with other rows.

        Args:
            rows: row of the last step that each continues [R'], so many neighbours for each source; an index may repeat
                or be left out.
            sources: those that stay [B'], likewise; None: all.
        """
        for layer in self.layers:
            layer.reorder(rows, sources)
        if sources is not None:
            self.memory_mask = self.memory_mask.index_select(0, sources)
        self.pair = None if self.pair is None else self.pair.index_select(0, rows)


class Transformer(nn.Module):
    """Pre-norm encoder-decoder; the feed-forward networks of some layers are blocks with experts.

    Args:
        config: sizes and regularisation.
        moe: which layers have blocks, and their settings; ``strata: []`` makes a dense model.
        vocab_size: V.
        seed: the initial weights are a function of (seed, parameter name) alone.
        make_moe: builds a block of a given name and settings; default: all experts on this device.

    Attributes:
        activation_checkpointing: keep only each layer's inputs for the backward pass; may be set at any time.
        progress: share of the training that is done; the noise on the gates of languages grows with it.
    """

    def __init__(
        self, config: ModelConfig, moe: MoeConfig, vocab_size: int, *, seed: int = 1, make_moe: MoeFactory | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = False
        self.progress = 0.0
        make, blocks = make_moe or moe_factory(config, seed), moe.blocks(config)

        def ffn(side: str, layer: int) -> nn.Module:
            block = blocks.get(name := f"{side}.layers.{layer}.ffn")
            return DenseFeedForward(config) if block is None else make(name, block)

        self.embedding = SharedEmbedding(vocab_size, config, PAD_ID)
        self.encoder = _Stack(config, EncoderLayer, [ffn("encoder", i) for i in range(config.encoder_layers)])
        self.decoder = _Stack(config, DecoderLayer, [ffn("decoder", i) for i in range(config.decoder_layers)])
        self._initialize(seed)

    def _initialize(self, seed: int) -> None:
        blocks = {name for name, module in self.named_modules() if isinstance(module, StratifiedMoE)}
        for name, module in self.named_modules():
            inside_block = any(name.startswith(f"{block}.") for block in blocks)
            if inside_block:
                continue
            if isinstance(module, SharedEmbedding | Attention | LanguageProjections | LanguageGate):
                module.initialize(seed, name)
            elif isinstance(module, ExpertFFN):
                module.initialize(seed, name, how=self.config.ffn_init)

    def forward(
        self, src: Tensor, tgt_in: Tensor, num_src_tokens: int | None = None, num_tgt_tokens: int | None = None
    ) -> tuple[Tensor, ModelStats]:
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
        encoded = self.encode(src, num_src_tokens, tgt_in[:, 0], stats=True)
        pair = torch.stack([src[:, 0], tgt_in[:, 0]], dim=1)
        positions = Positions(tgt_in == PAD_ID, num_tgt_tokens, tgt_in, tgt_in[:, 0], pair)
        memory_mask = attention_mask(encoded.padding_mask)
        x = self._embed(tgt_in)
        stats = ModelStats(encoded.stats)
        languages = self._languages(self.decoder, positions)
        for layer in self.decoder.layers:
            x, block = self._through(layer, x, encoded.memory, memory_mask, positions, languages)
            if block is not None:
                stats.append(block)
        if languages is not None and encoded.stats.language_gates is not None:
            stats.language_gates = encoded.stats.language_gates + languages.close()
        return self.embedding.project(self.decoder.norm(x)), stats

    def encode(
        self, src: Tensor, num_tokens: int | None = None, start: Tensor | None = None, stats: bool = False
    ) -> Encoded:
        """Encode source token ids [B, S].

        Args:
            src: padded on the right with 0.
            num_tokens: those that are no padding, if that is known.
            start: first token of each decoder input [B], for routers that go by both languages.
            stats: whether anybody wants to know what the blocks' routing did. If not, there are statistics of some
                blocks or of none.
        """
        padding_mask = src == PAD_ID
        mask = attention_mask(padding_mask)
        pair = None if start is None else torch.stack([src[:, 0], start], dim=1)
        positions = Positions(padding_mask, num_tokens, src, src[:, 0], pair, stats)
        x, blocks = self._embed(src), ModelStats()
        languages = self._languages(self.encoder, positions)
        for layer in self.encoder.layers:
            x, block = self._through(layer, x, mask, positions, languages)
            if block is not None:
                blocks.append(block)
        if languages is not None:
            blocks.language_gates = languages.close()
        return Encoded(self.encoder.norm(x), padding_mask, src[:, 0], blocks)

    def start_decoding(self, encoded: Encoded) -> DecoderCache:
        """Cache for ``decode_step``: the source's keys and values of every layer, computed once."""
        layers = [LayerCache(layer.cross_attention.keys_and_values(encoded.memory)) for layer in self._decoder_layers]
        return DecoderCache(layers, attention_mask(encoded.padding_mask), encoded.first)

    def decode_step(self, tokens: Tensor, cache: DecoderCache) -> Tensor:
        """Logits of the next token.

        Args:
            tokens: the last token of every hypothesis [R] (the start token at first).
            cache: extended by this step.

        Returns:
            [R, V].
        """
        if cache.pair is None:
            source = cache.first.repeat_interleave(len(tokens) // len(cache.first))
            cache.pair = torch.stack([source, tokens], dim=1)
        positions = Positions(token_ids=tokens.unsqueeze(1), language=cache.pair[:, 1], pair=cache.pair, stats=False)
        x = self._embed(tokens.unsqueeze(1), cache.position)
        languages = self._languages(self.decoder, positions)
        for layer, layer_cache in zip(self._decoder_layers, cache.layers, strict=True):
            x = layer.step(x, layer_cache, cache.memory_mask, positions, languages)
        cache.position += 1
        return self.embedding.project(self.decoder.norm(x)).squeeze(1)

    def _languages(self, stack: _Stack, positions: Positions) -> Languages | None:
        """The matrices of a batch's languages; None where they have none."""
        if stack.languages is None or positions.language is None:
            return None
        weight_BDD = stack.languages(positions.language)
        mask = positions.padding_mask
        real_BT1 = None if mask is None else (~mask).unsqueeze(2).to(weight_BDD.dtype)
        return Languages(weight_BDD, real_BT1, self.progress * self.config.language_capacity.noise)

    def _through(
        self, layer: nn.Module, *inputs: Tensor | Positions | Languages | None
    ) -> tuple[Tensor, BlockStats | None]:
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
    """Layers, the final LayerNorm of a pre-norm stack, and the languages' matrices if they have any."""

    def __init__(
        self, config: ModelConfig, layer: Callable[[ModelConfig, nn.Module], nn.Module], ffns: list[nn.Module]
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer(config, ffn) for ffn in ffns)
        self.norm = nn.LayerNorm(config.d_model, config.norm_epsilon)
        number = config.language_capacity.languages
        self.languages = LanguageProjections(number, config.d_model) if number else None
