"""How alike the experts of a stratum are: linear CKA of what they make of the same tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.layer import StratifiedMoE

_MOST_TOKENS = 4096


def linear_cka(x_ND: Tensor, y_ND: Tensor) -> float:
    """``|X^T Y|^2 / (|X^T X| |Y^T Y|)`` of centred features, Frobenius norms: 0 to 1, 1 for a rotated or scaled copy.

    Args:
        x_ND: features of N tokens.
        y_ND: other features of the same tokens.

    Returns:
        0 where one of the two is the same for all tokens.

    Source: Kornblith et al., arXiv 1905.00414, eq. 4 with linear kernels.
    """
    x_ND, y_ND = (of - of.mean(0) for of in (x_ND.double(), y_ND.double()))
    scale = (x_ND.t() @ x_ND).norm() * (y_ND.t() @ y_ND).norm()
    return float((x_ND.t() @ y_ND).square().sum() / scale) if scale > 0 else 0.0


class Sample:
    """Tokens drawn from a stream, each with the same probability; the same ones on every machine.

    Args:
        most: tokens kept.
        seed: of the draw.
    """

    def __init__(self, most: int, seed: int) -> None:
        self.most = most
        self.generator = torch.Generator().manual_seed(seed)
        self.keys_N = torch.empty(0)
        self.tokens_ND: Tensor | None = None

    def add(self, tokens_TD: Tensor) -> None:
        """The next tokens of the stream."""
        tokens_TD = tokens_TD.detach().float().cpu()
        keys_N = torch.cat([self.keys_N, torch.rand(tokens_TD.shape[0], generator=self.generator)])
        tokens_ND = tokens_TD if self.tokens_ND is None else torch.cat([self.tokens_ND, tokens_TD])
        self.keys_N, kept = keys_N.topk(min(self.most, len(keys_N)))
        self.tokens_ND = tokens_ND[kept]


@contextmanager
def sampled_tokens(model: Transformer, most: int = _MOST_TOKENS) -> Iterator[dict[str, list[Sample]]]:
    """Samples of the normalised tokens of each stratum, by block name, of all forward passes within the context
    that ask for statistics; others may leave mixtures uncalled."""
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, StratifiedMoE)}
    samples = {name: [Sample(most, i) for i in range(len(block.mixtures))] for name, block in blocks.items()}
    handles = []
    for name, block in blocks.items():
        for sample, mixture in zip(samples[name], block.mixtures, strict=True):

            def remember(_: nn.Module, inputs: tuple[Any, ...], sample: Sample = sample) -> None:
                sample.add(inputs[0])

            handles.append(mixture.register_forward_pre_hook(remember))
    try:
        yield samples
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def expert_similarity(block: StratifiedMoE, samples: list[Sample]) -> Tensor:
    """CKA of every two experts of a stratum, 0 for experts of different strata; symmetric, float64 [E, E].

    Args:
        block: with all of its experts here.
        samples: tokens of each of its strata; an expert is asked for those of all strata whose gate sees it.
    """
    placement = block.placement
    result_EE = torch.zeros(placement.num_experts, placement.num_experts, dtype=torch.float64)
    like = next(block.parameters())
    for i, size in enumerate(placement.strata):
        members = list(range(placement.first_expert(i), placement.first_expert(i) + size))
        seen = [of.tokens_ND for j, of in enumerate(samples) if members[0] in placement.visible_experts(j)]
        tokens_ND = torch.cat([tokens for tokens in seen if tokens is not None]).to(like)
        outputs = [block.experts[str(e)](tokens_ND).cpu() for e in members]
        for a, one in zip(members, outputs, strict=True):
            for b, other in zip(members[: a - members[0]], outputs, strict=False):
                result_EE[a, b] = result_EE[b, a] = linear_cka(one, other)
            result_EE[a, a] = 1.0
    return result_EE
