"""Decoding by the difference of two ways of routing the same model: tokens that only the usual way likes win.

Source: SCMoE, Shi et al., arXiv 2405.14507. There the tokens of highest contrast are taken one by one; here the
contrasted logits are what beam search or sampling normalises and adds up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from smoe_ds.config.decode import ContrastConfig
from smoe_ds.errors import ConfigError
from smoe_ds.model.layers import LayerCache
from smoe_ds.model.transformer import DecoderCache, Encoded, Transformer
from smoe_ds.moe.routers.top_k import TopKRouter

_FAR_BELOW = 1e4  # logits of tokens that are not plausible: no other can lie so low, and their order stays


@dataclass
class TwoCaches:
    """What both ways keep between steps; the way of a whole prefix is one.

    Attributes:
        strong: of the usual routing.
        weak: of the other one.
    """

    strong: DecoderCache
    weak: DecoderCache

    def reorder(self, rows: Tensor, sources: Tensor | None) -> None:
        """See `smoe_ds.model.transformer.DecoderCache.reorder`."""
        self.strong.reorder(rows, sources)
        self.weak.reorder(rows, sources)


class ContrastModel:
    """A model whose next token is told by strong routing against weak routing of the decoder; two passes a step.

    With weak routing a gate takes the one expert at a certain place of its order, with weight 1. Where it sees fewer
    experts it takes the last one.

    Args:
        model: with at least one block in the decoder whose router is top-K.
        config: how strongly, and against which place.

    Raises:
        ConfigError: the decoder has no such block.
    """

    def __init__(self, model: Transformer, config: ContrastConfig) -> None:
        self.model = model
        self.config = config
        self.routers = [router for router in model.decoder.modules() if isinstance(router, TopKRouter)]
        if not self.routers:
            raise ConfigError(
                "smoe.decode.contrast: the decoder has no block with a top_k router, whose weak routing could be told "
                "from its usual one; set smoe.decode.contrast.strength to 0"
            )

    def encode(self, src: Tensor, *, start: Tensor | None = None) -> Encoded:
        """As the model does, by the usual routing."""
        return self.model.encode(src, start=start)

    def start_decoding(self, encoded: Encoded) -> TwoCaches:
        """Caches of both ways; the keys and values of the sources are the same."""
        strong = self.model.start_decoding(encoded)
        return TwoCaches(strong, replace(strong, layers=[LayerCache(one.memory) for one in strong.layers]))

    def decode_step(self, tokens: Tensor, cache: TwoCaches) -> Tensor:
        """Contrasted logits of the next token [R, V]; see `smoe_ds.model.transformer.Transformer.decode_step`."""
        strong_RV = self.model.decode_step(tokens, cache.strong)
        with weak_routing(self.routers, self.config.weak_place):
            weak_RV = self.model.decode_step(tokens, cache.weak)
        return contrasted(strong_RV, weak_RV, self.config)


def contrasted(strong_RV: Tensor, weak_RV: Tensor, config: ContrastConfig) -> Tensor:
    """``(1 + strength) * strong - strength * weak`` where a token is plausible, far below elsewhere; float32 or wider.

    A token is plausible if the strong routing gives it at least ``plausibility`` times the probability of its best one.
    """
    wide = torch.promote_types(strong_RV.dtype, torch.float32)
    strong_RV, weak_RV = strong_RV.to(wide), weak_RV.to(wide)
    least_R1 = strong_RV.amax(dim=1, keepdim=True) + math.log(config.plausibility)
    difference_RV = strong_RV + config.strength * (strong_RV - weak_RV)
    return torch.where(strong_RV >= least_R1, difference_RV, strong_RV - _FAR_BELOW)


@contextmanager
def weak_routing(routers: Sequence[TopKRouter], place: int) -> Iterator[None]:
    """Gates take the expert at ``place`` of their order alone, the first being 1."""
    for router in routers:
        router.only_place = place
    try:
        yield
    finally:
        for router in routers:
            router.only_place = None
