"""What a model does with given text, by direction and block: routing and losses, from one forward pass over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smoe_ds.analysis.batch_rows import BatchRows
from smoe_ds.analysis.choice_pairs import ChoicePairs
from smoe_ds.analysis.listening import moe_blocks
from smoe_ds.data.batch import PAD_ID, Batch
from smoe_ds.data.ragged import Int64
from smoe_ds.data.validation_batches import ValidationBatches
from smoe_ds.decode.translator import Translator
from smoe_ds.errors import DataError
from smoe_ds.model.loss import token_nll
from smoe_ds.moe.capacity import expert_capacity
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.stats import BlockStats, StratumStats
from smoe_ds.parallel.agreement import sum_array, together

SIDES = ("encoder", "decoder")


def side_of(block: str) -> str:
    """Where a block lies, by its name: ``encoder`` or ``decoder``."""
    return block.split(".")[0]


def language_of(side: str, direction: str) -> str:
    """The language that a side reads: the encoder the source's, the decoder the target's."""
    return direction.split("-")[SIDES.index(side)]


@dataclass(frozen=True)
class StratumUse:
    """One stratum of one block.

    Attributes:
        visible: numbers of the experts that its gate sees, E of them.
        tokens: those that entered; slices of tokens in a block with heads.
        requested_KE: rows wanted per choice and visible expert, int64 [K, E].
        entropy_sum: gate entropy summed over tokens [nat].
        over_capacity: rows that the block's ``capacity_factor`` would have dropped in training; None without a limit.
        pairs: tokens that took a first and a second choice.
        same_stratum: those of them whose two choices lie in the same stratum.
    """

    visible: range
    tokens: int
    requested_KE: Int64
    entropy_sum: float
    over_capacity: int | None
    pairs: int
    same_stratum: int

    def __add__(self, other: StratumUse) -> StratumUse:
        """The same stratum over two texts."""
        over = (self.over_capacity, other.over_capacity)
        return StratumUse(
            self.visible,
            self.tokens + other.tokens,
            self.requested_KE + other.requested_KE,
            self.entropy_sum + other.entropy_sum,
            None if over[0] is None or over[1] is None else over[0] + over[1],
            self.pairs + other.pairs,
            self.same_stratum + other.same_stratum,
        )


@dataclass(frozen=True)
class SideTokens:
    """The input of one side in one direction, padding left out.

    Attributes:
        ids_U: vocabulary ids that occur, ascending [U].
        count_U: how often each does, int64 [U].
        count_S: tokens at each position, the first one first, int64 [S].
    """

    ids_U: Int64
    count_U: Int64
    count_S: Int64


@dataclass(frozen=True)
class BlockUse:
    """One block in one direction.

    Attributes:
        passes_U: strata that the tokens of each id passed, summed; in a block with heads over slices too, int64 [U].
        passes_S: the same by position [S].
        heads: slices of a token.
        strata: one entry per stratum.
    """

    passes_U: Int64
    passes_S: Int64
    heads: int
    strata: tuple[StratumUse, ...]


@dataclass(frozen=True)
class SentenceTokens:
    """The single tokens of one side in one direction, sentence after sentence; 8 bytes each.

    Attributes:
        ids_T: vocabulary ids, int32 [T].
        rc_T: requested capacity, mean over the blocks of the side, float32 [T]; 0 for a side without blocks.
        length_N: tokens of each sentence, N of them that add up to T.
    """

    ids_T: NDArray[np.int32]
    rc_T: NDArray[np.float32]
    length_N: Int64


@dataclass(frozen=True)
class PredictedTokens:
    """The tokens that the decoder is to predict in one direction, sentence after sentence; 8 bytes each.

    Attributes:
        ids_T: vocabulary ids, int32 [T].
        nll_T: negative log-likelihood [nat], float32 [T].
        length_N: tokens of each sentence, N of them that add up to T.
    """

    ids_T: NDArray[np.int32]
    nll_T: NDArray[np.float32]
    length_N: Int64


@dataclass(frozen=True)
class DirectionUse:
    """One direction.

    Attributes:
        sides: the input of encoder and decoder.
        blocks: by name; none in a dense model.
        sentences: the tokens of each side one by one.
        predicted: what the decoder is to predict.
    """

    sides: Mapping[str, SideTokens]
    blocks: Mapping[str, BlockUse]
    sentences: Mapping[str, SentenceTokens]
    predicted: PredictedTokens


@torch.inference_mode()
def measure_routing(
    translator: Translator, batches: Mapping[str, ValidationBatches], progress: Callable[[str], None]
) -> dict[str, DirectionUse]:
    """Runs the model over sentence pairs, the targets given, and counts by direction. A collective.

    Args:
        translator: the model, whole on each rank.
        batches: by direction; each batch holds sentences of one. Ranks have been dealt them.
        progress: told each direction when it is done.

    Returns:
        By direction, over all ranks and the same for any number of them; empty on all ranks but the first one.

    Raises:
        DataError: a rank cannot read its text.
    """
    blocks = moe_blocks(translator.model)
    use = {}
    for direction, some in batches.items():
        counts = _DirectionCounts(translator, blocks)
        with _all_or_none(direction, some.world_size):
            counts.read(some)
        found = counts.gather()
        progress(direction)
        if found is not None:
            use[direction] = found
    return use


def _all_or_none(direction: str, world_size: int) -> AbstractContextManager[None]:
    """What one rank cannot read ends all; of one process, the error is left as it is."""
    return together(DataError, f"analysing {direction}") if world_size > 1 else nullcontext()


class _DirectionCounts:
    """Everything that is counted of one direction, of this rank's batches."""

    def __init__(self, translator: Translator, blocks: Mapping[str, StratifiedMoE]) -> None:
        self._translator, self._blocks = translator, blocks
        size, longest = translator.tokenizer.vocab_size, translator.max_positions
        self._sides = {side: _Sums(size, longest) for side in SIDES}
        self._counts = {name: _BlockCounts(block, size, longest) for name, block in blocks.items()}
        self._single = {side: _Single([name for name in blocks if side_of(name) == side]) for side in SIDES}
        self._predicted = _Predicted()

    def read(self, batches: Iterable[Batch]) -> None:
        """Runs the model over batches."""
        model, device = self._translator.model, self._translator.device
        with ChoicePairs(self._blocks) as pairs:
            for batch in batches:
                logits, stats = model(batch.src.to(device), batch.tgt_in.to(device))
                self._predicted.add(batch.tgt_out, token_nll(logits, batch.tgt_out.to(device)))
                inputs = {"encoder": batch.src, "decoder": batch.tgt_in}
                by_block = dict(zip(self._blocks, stats, strict=True))
                for side, ids_BS in inputs.items():
                    self._sides[side].add(ids_BS, torch.ones_like(ids_BS))
                    self._single[side].add(ids_BS, by_block)
                for name, counts in self._counts.items():
                    counts.add(inputs[side_of(name)], by_block[name], pairs.take(name))

    def gather(self) -> DirectionUse | None:
        """The same of all ranks' batches, on the first rank. A collective."""
        for sums in self._sides.values():
            sums.sum_over_ranks()
        seen = {side: np.flatnonzero(sums.of_ids_V) for side, sums in self._sides.items()}
        blocks = {name: counts.gather(seen[side_of(name)]) for name, counts in self._counts.items()}
        sentences = {side: single.gather() for side, single in self._single.items()}
        predicted = self._predicted.gather()
        if predicted is None:
            return None
        return DirectionUse(
            sides={side: SideTokens(seen[side], of.of_ids_V[seen[side]], of.of_S) for side, of in self._sides.items()},
            blocks={name: block for name, block in blocks.items() if block is not None},
            sentences={side: tokens for side, tokens in sentences.items() if tokens is not None},
            predicted=predicted,
        )


class _Single:
    """The tokens of a side, one by one.

    Args:
        blocks: names of the side's blocks.
    """

    def __init__(self, blocks: Sequence[str]) -> None:
        self._blocks = blocks
        self._ids, self._rc, self._lengths = BatchRows(np.int32), BatchRows(np.float32), BatchRows(np.int64)

    def add(self, ids_BS: Tensor, stats: Mapping[str, BlockStats]) -> None:
        """Adds the tokens of one batch that are no padding."""
        ids = ids_BS.numpy()
        of_blocks = [stats[name].requested_capacity.cpu().numpy() / stats[name].heads for name in self._blocks]
        rc_BS = np.mean(of_blocks, axis=0) if of_blocks else np.zeros(ids.shape)
        real = ids != PAD_ID
        self._ids.add(ids[real])
        self._rc.add(rc_BS[real])
        self._lengths.add(_lengths(real))

    def gather(self) -> SentenceTokens | None:
        """Those of all batches, on the first rank."""
        ids, rc, lengths = self._ids.gather(), self._rc.gather(), self._lengths.gather()
        return None if ids is None or rc is None or lengths is None else SentenceTokens(ids, rc, lengths)


class _Predicted:
    """The tokens to predict, one by one."""

    def __init__(self) -> None:
        self._ids, self._nll, self._lengths = BatchRows(np.int32), BatchRows(np.float32), BatchRows(np.int64)

    def add(self, ids_BT: Tensor, nll_BT: Tensor) -> None:
        """Adds the tokens of one batch that are no padding."""
        ids = ids_BT.numpy()
        real = ids != PAD_ID
        self._ids.add(ids[real])
        self._nll.add(nll_BT.cpu().numpy()[real])
        self._lengths.add(_lengths(real))

    def gather(self) -> PredictedTokens | None:
        """Those of all batches, on the first rank."""
        ids, nll, lengths = self._ids.gather(), self._nll.gather(), self._lengths.gather()
        return None if ids is None or nll is None or lengths is None else PredictedTokens(ids, nll, lengths)


def _lengths(real_BS: NDArray[np.bool_]) -> Int64:
    """Tokens of each sentence [B]; an empty batch, one row of padding, has no sentence."""
    lengths = real_BS.sum(1)
    return lengths[lengths > 0]


class _Sums:
    """Sums of whole numbers over tokens, by vocabulary id and by position."""

    def __init__(self, vocab_size: int, max_positions: int) -> None:
        self.of_ids_V = np.zeros(vocab_size, np.int64)
        self.of_S = np.zeros(max_positions, np.int64)

    def add(self, ids_BS: Tensor, values_BS: Tensor) -> None:
        """Adds the values of one batch at its positions that are no padding."""
        ids, values = ids_BS.numpy(), values_BS.cpu().numpy()
        real = ids != PAD_ID
        np.add.at(self.of_ids_V, ids[real], values[real])
        self.of_S[: ids.shape[1]] += (values * real).sum(0)

    def sum_over_ranks(self) -> None:
        """Adds what the other ranks have. A collective."""
        self.of_ids_V, self.of_S = sum_array(self.of_ids_V), sum_array(self.of_S)


class _BlockCounts:
    """One block; every rank has read a batch, if only an empty one, when ranks are summed over."""

    def __init__(self, block: StratifiedMoE, vocab_size: int, max_positions: int) -> None:
        self._passes = _Sums(vocab_size, max_positions)
        self._strata = [_StratumCounts(block, i) for i in range(len(block.mixtures))]
        self._heads = 1

    def add(self, ids_BS: Tensor, stats: BlockStats, pairs_L2: list[tuple[int, int]]) -> None:
        """Adds one batch."""
        self._heads = stats.heads
        self._passes.add(ids_BS, stats.requested_capacity)
        for counts, of_stratum, pairs in zip(self._strata, stats.strata, pairs_L2, strict=True):
            counts.add(of_stratum, pairs)

    def gather(self, seen_U: Int64) -> BlockUse | None:
        """The counts of all ranks, of the ids ``seen_U``, on the first rank."""
        self._passes.sum_over_ranks()
        strata = [counts.gather() for counts in self._strata]
        known = tuple(one for one in strata if one is not None)
        if len(known) < len(strata):
            return None
        return BlockUse(self._passes.of_ids_V[seen_U], self._passes.of_S, self._heads, known)


class _StratumCounts:
    """One stratum of a block."""

    def __init__(self, block: StratifiedMoE, stratum: int) -> None:
        self._visible = block.placement.visible_experts(stratum)
        limited = "capacity_factor" in block.block.router.heeds
        self._capacity_factor = block.block.capacity_factor if limited else None
        self._counts = np.zeros(4, np.int64)  # tokens, rows over capacity, pairs, pairs in the same stratum
        self._requested_KE = np.zeros((), np.int64)
        self._entropies = BatchRows(np.float64)

    def add(self, stats: StratumStats, pairs: tuple[int, int]) -> None:
        """Adds one batch."""
        requested_KE = stats.requested_KE.cpu().numpy()
        capacity = expert_capacity(stats.num_tokens, requested_KE.shape[1], self._capacity_factor)
        over = 0 if capacity is None else int((requested_KE.sum(0) - capacity).clip(min=0).sum())
        self._counts += [stats.num_tokens, over, *pairs]
        self._requested_KE = self._requested_KE + requested_KE
        self._entropies.add(np.array([float(stats.entropy_sum)]))

    def gather(self) -> StratumUse | None:
        """The counts of all ranks, on the first one; entropies are added in the order of the batches."""
        requested_KE, counts, entropies = (
            sum_array(self._requested_KE),
            sum_array(self._counts),
            self._entropies.gather(),
        )
        if entropies is None:
            return None
        tokens, over, pairs, same = counts.tolist()
        limit = None if self._capacity_factor is None else over
        return StratumUse(self._visible, tokens, requested_KE, sum(entropies.tolist()), limit, pairs, same)
