"""What the experts of a block cost, kind by kind: parameters, work once a forward pass, and work for rows.

Shape letters as in :mod:`smoe_ds.moe`: ``D`` model width, ``F`` feed-forward width, ``R`` rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smoe_ds.config.experts import Adapters, ExpertsSection, Mpo
from smoe_ds.moe.chain_shapes import ChainShape
from smoe_ds.moe.cost import FFN_INNER, FFN_MATRICES, FP32, Cost, Storage, feed_forward
from smoe_ds.moe.loads import StratumLoad

_LEAN_INNER = {"relu": 1, "gelu": 1, "swiglu": 2}
"""Tensors [R, F] that experts keep when they are computed the lean way."""


@dataclass(frozen=True)
class ExpertCosts:
    """The costs of feed-forward networks as experts; other kinds differ in what they override.

    Attributes:
        settings: the section of the experts.
        d_model: D.
        d_ffn: F, the mean where experts differ in width.
        activation: of the networks.
        backend: how experts are computed, see :func:`smoe_ds.moe.expert_backends.choose_backend`.
        reads_tokens: whether something else than the gate and rows reads the tokens of a stratum.
    """

    settings: ExpertsSection
    d_model: int
    d_ffn: int
    activation: str
    backend: str

    reads_tokens: ClassVar[bool] = False

    def expert(self, width: int) -> Cost:
        """The parameters that one expert of this inner width has to itself."""
        return feed_forward(self.d_model, width, self.activation, 0, kind="experts")

    def once(self, local: int, storage: Storage) -> Cost:
        """The parameters that the experts share, and what is done once a forward pass however many rows there are.

        Args:
            local: experts of the block on the rank.
            storage: of the tensors.
        """
        return Cost()

    def tokens(self, tokens: float, storage: Storage) -> Cost:
        """What is computed once for each token of a stratum."""
        return Cost()

    def rows(self, load: StratumLoad, width: float, storage: Storage) -> Cost:
        """The rows' matrix products in a stratum. The lean way keeps neither rows nor outputs; grouped products keep
        the weights of a rank's experts once more, as one tensor.

        Args:
            load: of the stratum.
            width: mean F of the experts that it sees, which get as many rows each.
            storage: of the tensors.
        """
        once = feed_forward(self.d_model, self.d_ffn, self.activation, load.rows, kind="experts")
        lean = self.backend == "lean"
        inner = (_LEAN_INNER if lean else FFN_INNER)[self.activation] * width
        row = inner + (0 if lean else 2 * self.d_model)
        weights = load.busiest_experts * once.matrices if self.backend == "grouped" else 0
        saved = (load.rows * row + weights) * storage.itemsize + load.rows * self.d_model * storage.dropout
        flops = {kind: number * (width / self.d_ffn) for kind, number in once.flops.items()}
        return Cost(flops=flops, rows=load.rows, saved_bytes=saved)


@dataclass(frozen=True)
class AdapterCosts(ExpertCosts):
    """A feed-forward network for every token, and an adapter for every row; always one after the other."""

    settings: Adapters

    reads_tokens: ClassVar[bool] = True

    def expert(self, width: int) -> Cost:
        own = 2 * self.d_model * self.settings.rank
        return Cost({"experts": own}, own)

    def once(self, local: int, storage: Storage) -> Cost:
        return feed_forward(self.d_model, self.d_ffn, self.activation, 0, kind="shared_experts")

    def tokens(self, tokens: float, storage: Storage) -> Cost:
        network = feed_forward(self.d_model, self.d_ffn, self.activation, tokens, FP32, kind="shared_experts")
        inner = FFN_INNER[self.activation] * self.d_ffn
        return Cost(flops=network.flops, saved_bytes=tokens * inner * storage.itemsize)

    def rows(self, load: StratumLoad, width: float, storage: Storage) -> Cost:
        """Kept are a row after its dropout, with the mask, both sides of the GELU, and the output."""
        rank = self.settings.rank
        mask = Storage(storage.itemsize, self.settings.dropout > 0, storage.fused_dropout).dropout_bytes
        saved = (2 * self.d_model + 2 * rank) * storage.itemsize + self.d_model * (mask + storage.dropout)
        return Cost(
            flops={"experts": 4 * self.d_model * rank * load.rows}, rows=load.rows, saved_bytes=load.rows * saved
        )


@dataclass(frozen=True)
class ChainCosts(ExpertCosts):
    """Feed-forward networks whose matrices are made of chains first."""

    settings: Mpo

    def expert(self, width: int) -> Cost:
        own = FFN_MATRICES[self.activation] * self._shape.own
        return Cost({"experts": own}, own)

    def once(self, local: int, storage: Storage) -> Cost:
        shape, number = self._shape, FFN_MATRICES[self.activation]
        network = feed_forward(self.d_model, self.d_ffn, self.activation, 0)
        biases = network.parameters["feed_forward"] - network.matrices
        matrices = 0 if self.backend == "grouped" else self.d_ffn * self.d_model
        return Cost(
            parameters={"shared_experts": number * shape.centre + biases},
            matrices=number * shape.centre,
            flops={"expert_weights": local * number * shape.contraction_flops},
            saved_bytes=local * number * (shape.contraction_kept + matrices) * storage.itemsize,
        )

    @property
    def _shape(self) -> ChainShape:
        return ChainShape.of(self.d_ffn, self.d_model, self.settings.bond)  # D x F costs as much as F x D


COSTS: dict[str, type[ExpertCosts]] = {"ffn": ExpertCosts, "adapters": AdapterCosts, "mpo": ChainCosts}
"""By the kind of the experts."""
