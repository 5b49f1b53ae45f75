"""What a stratified block costs, :class:`smoe_ds.moe.layer.StratifiedMoE`, whichever system it is set to.

Shape letters as in :mod:`smoe_ds.moe`: ``D`` model width, ``F`` feed-forward width, ``E`` experts that a gate sees,
``L`` strata, ``K`` choices, ``T`` tokens of a stratum, ``R`` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.heads import inner_sizes
from smoe_ds.moe.cost import FP32, Cost, Storage, feed_forward, layer_norm, total
from smoe_ds.moe.expert_costs import COSTS, ExpertCosts
from smoe_ds.moe.loads import StratumLoad, block_loads
from smoe_ds.moe.placement import Placement
from smoe_ds.moe.shared_expert import GATE_ROWS

_GATE_BYTES = 4  # gates compute in float32


@dataclass(frozen=True)
class BlockSizes:
    """The settings of a block that its cost depends on.

    Attributes:
        d_model: D.
        d_ffn: inner width of its experts, F.
        block: its settings.
        ep_size: ranks that share its experts.
        activation: of the experts.
        backend: how experts are computed, see :func:`smoe_ds.moe.expert_backends.choose_backend`.
    """

    d_model: int
    d_ffn: int
    block: BlockSettings
    ep_size: int = 1
    activation: str = "relu"
    backend: str = "lean"

    @property
    def widths(self) -> tuple[int, ...]:
        """F of each expert."""
        return self.block.widths(self.d_ffn)

    def parameters_on(self, ep_rank: int) -> int:
        """Parameters of the routed experts on one rank."""
        inner, local = self.inner, self.placement.experts_on(ep_rank)
        return sum(inner.experts.expert(inner.widths[e]).parameters["experts"] for e in local)

    @property
    def placement(self) -> Placement:
        """The strata, and on how many ranks their experts lie."""
        return Placement(tuple(self.block.strata), self.ep_size, self.block.stacked)

    @property
    def experts(self) -> ExpertCosts:
        """What its experts cost."""
        section = self.block.experts
        backend = "loop" if section.loop_only else self.backend
        return COSTS[section.kind](section, self.d_model, self.d_ffn, self.activation, backend)

    @property
    def inner(self) -> BlockSizes:
        """The block that the slices of tokens pass where there are heads."""
        d_model, d_ffn = inner_sizes(self.block, self.d_model, self.d_ffn, self.activation)
        block = self.block.model_copy(update={"heads": 1, "expert_ffn": None})
        return replace(self, d_model=d_model, d_ffn=block.inner_width(d_ffn), block=block)

    def loads(self, tokens: float = 1.0, requested_capacity: float | None = None) -> tuple[StratumLoad, ...]:
        """What each stratum gets where routing is uniform, see :func:`smoe_ds.moe.loads.block_loads`."""
        return block_loads(self.block, self.ep_size, tokens, requested_capacity)


def stratified_block(
    sizes: BlockSizes, loads: Sequence[StratumLoad], storage: Storage = FP32, forwards: int = 1
) -> Cost:
    """A block in one micro-batch of one rank.

    Args:
        sizes: of the block.
        loads: tokens and rows of each stratum, see :func:`smoe_ds.moe.loads.block_loads`; or as they were counted.
        storage: of the tensors.
        forwards: forward passes per backward pass, for the exchange: 2 with activation checkpointing.
    """
    if sizes.block.heads > 1:
        return _heads(sizes, loads[0].tokens, storage) + stratified_block(sizes.inner, loads, storage, forwards)
    row_bytes = sizes.d_model * storage.itemsize
    tokens = loads[0].tokens
    experts, local = sizes.experts, sizes.placement.num_experts // sizes.ep_size
    cost = total(experts.expert(width) for width in sizes.widths) + experts.once(local, storage)
    cost += Cost(
        exchanged_bytes=sum(load.exchanged_bytes(row_bytes, forwards) for load in loads),
        temporary_bytes=2 * loads[0].sent_rows * row_bytes,  # what the first stratum sends and gets at once
    )
    cost += total(_stratum(sizes, i, load, storage) for i, load in enumerate(loads))
    if sizes.block.shared_expert != "none":
        cost += _shared_expert(sizes, tokens, storage)
    return cost + layer_norm(sizes.d_model, tokens, storage) if sizes.block.norm == "released" else cost


def _heads(sizes: BlockSizes, slices: float, storage: Storage) -> Cost:
    """Norm and projections around a block with heads; the norm's output and the slices that come back are kept."""
    tokens, matrices = slices / sizes.block.heads, 2 * sizes.d_model**2
    projections = Cost(
        parameters={"feed_forward": matrices + 2 * sizes.d_model},
        matrices=matrices,
        flops={"feed_forward": 2 * matrices * tokens},
    )
    return layer_norm(sizes.d_model, tokens, storage) + projections + _wide(sizes, tokens, 2 * storage.itemsize)


def _stratum(sizes: BlockSizes, stratum: int, load: StratumLoad, storage: Storage) -> Cost:
    """LayerNorm, gate, and the routed experts' work in one stratum."""
    stacked, later = sizes.block.stacked, stratum > 0
    visible = sizes.placement.visible_experts(stratum)
    width = sum(sizes.widths[e] for e in visible) / len(visible)
    cost = _gate(sizes, stratum, load.tokens, storage)
    cost += sizes.experts.tokens(load.tokens, storage) + sizes.experts.rows(load, width, storage)
    if not (stacked and later):
        cost += layer_norm(sizes.d_model, load.tokens, storage)
    if later and not stacked:  # the output, which is added at some of the tokens
        cost += _wide(sizes, load.tokens, storage.itemsize)
    return cost


def _gate(sizes: BlockSizes, stratum: int, tokens: float, storage: Storage) -> Cost:
    """A gate keeps its input in float32, logits and probabilities; the experts' input is another tensor if that is a
    copy, kept by experts that gather their rows a second time, by a network common to all, and by a shared one."""
    visible, block = len(sizes.placement.visible_experts(stratum)), sizes.block
    jitter = block.jitter > 0
    apart = storage.half or jitter
    experts = sizes.experts
    wanted = experts.backend == "lean" or experts.reads_tokens or (block.shared_expert != "none" and stratum == 0)
    noise = storage.itemsize * jitter
    width = _GATE_BYTES + noise + (storage.itemsize if apart and wanted else 0)
    scores = 2 * visible
    if (dimensions := block.cosine_width(visible)) is not None:
        # The token's vector there and its direction, its length twice; cosines, and probabilities for the balance loss.
        scores += 2 * dimensions + 2 + 2 * visible
    return Cost(
        parameters={"gates": block.gate_parameters(sizes.d_model, visible)},
        flops={"gates": block.gate_flops(sizes.d_model, visible) * tokens},
        saved_bytes=tokens * (sizes.d_model * width + _GATE_BYTES * scores),
    )


def _shared_expert(sizes: BlockSizes, tokens: float, storage: Storage) -> Cost:
    """The expert that all tokens pass, and the gate of CMR or PR-MoE, which keeps both outputs that it mixes."""
    cost = feed_forward(sizes.d_model, sizes.d_ffn, sizes.activation, tokens, storage, kind="shared_experts")
    rows = GATE_ROWS[sizes.block.shared_expert]
    if not rows:
        return cost
    copy = _GATE_BYTES if storage.half else 0
    weights = rows * sizes.d_model
    gate = Cost(parameters={"gates": weights + rows}, flops={"gates": 2 * weights * tokens})
    return cost + gate + _wide(sizes, tokens, 2 * storage.itemsize + copy)


def _wide(sizes: BlockSizes, tokens: float, itemsize: int) -> Cost:
    """A tensor [T, D] that is kept."""
    return Cost(saved_bytes=tokens * sizes.d_model * itemsize)
