"""What a module costs, as numbers that add up; and the cost of the two modules that all others are made of.

Shape letters as in :mod:`smoe_ds.moe`: ``D`` model width, ``F`` feed-forward width, ``T`` tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

KINDS = ("embedding", "attention", "feed_forward", "experts", "shared_experts", "gates", "norms")
"""The kinds of parameters, in the order of a plan."""
FFN_MATRICES = {"relu": 2, "gelu": 2, "swiglu": 3}
"""Matrices of a feed-forward network, each D x F or F x D."""
FFN_INNER = {"relu": 1, "gelu": 2, "swiglu": 4}
"""Tensors [T, F] that autograd keeps of a feed-forward network: ReLU works in place, GELU keeps input and output,
SwiGLU keeps both products, the gate and what comes of it."""


@dataclass(frozen=True)
class Storage:
    """How the tensors that a module makes are stored.

    Attributes:
        itemsize: bytes of a weight, an activation and a gradient.
        dropout: whether there is dropout.
        fused_dropout: whether torch's keeps a mask of one byte per element, as on CUDA; on a CPU it keeps the factors.
            That of the routed rows is the layer's own, with a mask everywhere.
    """

    itemsize: int = 4
    dropout: bool = False
    fused_dropout: bool = True

    @property
    def dropout_bytes(self) -> int:
        """What torch's dropout keeps per element."""
        return (1 if self.fused_dropout else self.itemsize) if self.dropout else 0

    @property
    def half(self) -> bool:
        """Whether float32, which gates and losses are computed in, takes a copy."""
        return self.itemsize < 4


FP32 = Storage()
"""float32, no dropout: for costs that no bytes are asked of."""


@dataclass(frozen=True)
class Cost:
    """The cost of one module or of several, in one micro-batch of one rank.

    Attributes:
        parameters: of all ranks together, by kind.
        matrices: those of the parameters that are entries of weight matrices, gates left out: what the paper counts.
        flops: of the matrix products of one forward pass, by kind.
        score_flops: of the products of queries with keys, and of the probabilities with values.
        rows: (token, choice) pairs that experts compute.
        exchanged_bytes: bytes of rows that a rank sends to others, forward and backward.
        saved_bytes: what stays for the backward pass.
        temporary_bytes: the largest tensors beside those, where they are worth counting; of several modules the most.
    """

    parameters: Mapping[str, int] = field(default_factory=dict)
    matrices: int = 0
    flops: Mapping[str, float] = field(default_factory=dict)
    score_flops: float = 0.0
    rows: float = 0.0
    exchanged_bytes: float = 0.0
    saved_bytes: float = 0.0
    temporary_bytes: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            parameters={
                kind: self.parameters.get(kind, 0) + other.parameters.get(kind, 0)
                for kind in {**self.parameters, **other.parameters}
            },
            matrices=self.matrices + other.matrices,
            flops={kind: self.flops.get(kind, 0) + other.flops.get(kind, 0) for kind in {**self.flops, **other.flops}},
            score_flops=self.score_flops + other.score_flops,
            rows=self.rows + other.rows,
            exchanged_bytes=self.exchanged_bytes + other.exchanged_bytes,
            saved_bytes=self.saved_bytes + other.saved_bytes,
            temporary_bytes=max(self.temporary_bytes, other.temporary_bytes),
        )

    def flops_of(self, *kinds: str) -> float:
        """FLOPs of the matrix products of some kinds; of all, attention scores left out, if none is named."""
        return sum(self.flops.get(kind, 0) for kind in kinds or self.flops)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of some costs."""
    return sum(costs, Cost())


def layer_norm(d_model: int, tokens: float, storage: Storage = FP32) -> Cost:
    """A LayerNorm, which keeps its input [T, D]; its output is kept by whoever needs it.

    Args:
        d_model: D.
        tokens: T.
        storage: of the tensors.
    """
    return Cost({"norms": 2 * d_model}, saved_bytes=tokens * d_model * storage.itemsize)


def feed_forward(
    d_model: int, d_ffn: int, activation: str, tokens: float, storage: Storage = FP32, kind: str = "feed_forward"
) -> Cost:
    """A feed-forward network, :class:`smoe_ds.moe.experts.ExpertFFN`, and the dropout of its output.

    Its input is not in the saved bytes, since the same tensor may be kept for something else.

    Args:
        d_model: D.
        d_ffn: F.
        activation: ``relu``, ``gelu`` or ``swiglu``.
        tokens: T.
        storage: of the tensors.
        kind: what parameters and FLOPs go by.
    """
    matrices = FFN_MATRICES[activation] * d_model * d_ffn
    biases = (FFN_MATRICES[activation] - 1) * d_ffn + d_model
    inner = FFN_INNER[activation] * d_ffn * storage.itemsize
    return Cost(
        parameters={kind: matrices + biases},
        matrices=matrices,
        flops={kind: 2 * matrices * tokens},
        saved_bytes=tokens * (inner + d_model * storage.dropout_bytes),
    )
