"""The path of every token of a sentence and its translation through the strata of every block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from smoe_ds.analysis.listening import listen, moe_blocks
from smoe_ds.analysis.routing_use import SIDES, side_of
from smoe_ds.decode.translator import Translator
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.mixture import Mixture
from smoe_ds.moe.routing import Routing


@dataclass(frozen=True)
class Pass:
    """A stratum that a token passed.

    Attributes:
        stratum: its number, from 0.
        experts: those taken, by their number in the block, most preferred first; none where a router took none.
        weights: of their outputs.
    """

    stratum: int
    experts: tuple[int, ...]
    weights: tuple[float, ...]


Path = tuple[Pass, ...]
"""The strata that a token, or a slice of one, passed, in their order."""


@dataclass(frozen=True)
class BlockPaths:
    """One block.

    Attributes:
        name: as in the model.
        strata: experts per stratum.
        heads: slices of a token.
        tokens: of each token, the path of each of its slices; in a block without heads a token is one slice.
    """

    name: str
    strata: tuple[int, ...]
    heads: int
    tokens: tuple[tuple[Path, ...], ...]

    @property
    def side(self) -> str:
        """``encoder`` or ``decoder``."""
        return side_of(self.name)

    @property
    def requested_capacities(self) -> list[float]:
        """Requested capacity of each token: strata passed, mean over its slices."""
        return [sum(map(len, slices)) / self.heads for slices in self.tokens]


@dataclass(frozen=True)
class SentencePaths:
    """A sentence and its translation.

    Attributes:
        direction: e.g. ``eng-nso``.
        source: the sentence.
        translation: the model's, or a given one.
        reference: another translation to compare it with; None without.
        tokens: spellings of the input of each side, by side: special tokens too; a piece's ``▁`` is a space.
        blocks: encoder first.
        cut: whether the sentence or its translation is longer than the model takes, and only its beginning is here.
    """

    direction: str
    source: str
    translation: str
    reference: str | None
    tokens: dict[str, tuple[str, ...]]
    blocks: tuple[BlockPaths, ...]
    cut: bool = False


@torch.inference_mode()
def sentence_paths(
    translator: Translator, direction: str, source: str, translation: str | None = None, reference: str | None = None
) -> SentencePaths:
    """Runs a model over one sentence and its translation, which is given or made, and follows every token.

    Args:
        translator: a model; a dense one has no blocks, and tokens without paths.
        direction: e.g. ``eng-nso``.
        source: a sentence.
        translation: into the target language; None: what the model translates.
        reference: only kept beside it.

    Raises:
        DataError: the vocabulary has no such language, or the model was exported without its experts.
    """
    source_language, language = direction.split("-")
    (pieces,) = translator.encoded([source])
    if translation is None:
        answer = translator.translate([source], language, source_language)[0]
        translation, target = answer.text, list(answer.tokens)
    else:
        (target,) = translator.encoded([translation])
    batch = translator.pair(pieces, target, language, source_language)
    blocks = moe_blocks(translator.model)
    paths = {name: _Follower(block) for name, block in blocks.items()}

    def hear(name: str, mixture: Mixture, routing: Routing) -> None:
        paths[name].hear(mixture, routing)

    handles = listen(blocks, hear)
    try:
        translator.model(batch.src.to(translator.device), batch.tgt_in.to(translator.device))
    finally:
        for handle in handles:
            handle.remove()
    spelling = [entry[0] for entry in translator.tokenizer.vocabulary()]
    inputs = dict(zip(SIDES, (batch.src[0].tolist(), batch.tgt_in[0].tolist()), strict=True))
    return SentencePaths(
        direction=direction,
        source=source,
        translation=translation,
        reference=reference,
        tokens={side: tuple(spelling[token] for token in ids) for side, ids in inputs.items()},
        blocks=tuple(follower.result(name, len(inputs[side_of(name)])) for name, follower in paths.items()),
        cut=len(pieces) > translator.max_source_pieces or len(target) > translator.max_target_pieces,
    )


class _Follower:
    """Follows the slices of all tokens of a sentence through a block."""

    def __init__(self, block: StratifiedMoE) -> None:
        self._block = block
        self._strata: list[tuple[Sequence[int], list[Pass]]] = []
        self._next: list[int] | None = None

    def hear(self, mixture: Mixture, routing: Routing) -> None:
        """One stratum: its tokens are those that go on to it, in the order of positions."""
        expert_TK, weights_TK = routing.expert_TK.tolist(), mixture.router.weights(routing, routing.chosen_TK).tolist()
        taken_TK = (torch.ones_like(routing.expert_TK) if routing.chosen_TK is None else routing.chosen_TK).tolist()
        first = mixture.placement.visible_experts(mixture.stratum)[0]
        after_T = mixture.stratum_after[routing.expert_TK[:, 0]].tolist()
        if self._next is None:
            self._next = [0] * len(after_T)
        slices = [number for number, stratum in enumerate(self._next) if stratum == mixture.stratum]
        passes = []
        for number, experts, weights, taken, after in zip(
            slices, expert_TK, weights_TK, taken_TK, after_T, strict=True
        ):
            chosen = [(first + e, w) for e, w, yes in zip(experts, weights, taken, strict=True) if yes]
            passes.append(Pass(mixture.stratum, tuple(e for e, _ in chosen), tuple(w for _, w in chosen)))
            self._next[number] = after
        self._strata.append((slices, passes))

    def result(self, name: str, num_tokens: int) -> BlockPaths:
        """The paths of all tokens."""
        heads = self._block.block.heads
        paths: list[list[Pass]] = [[] for _ in range(num_tokens * heads)]
        for slices, passes in self._strata:
            for number, one in zip(slices, passes, strict=True):
                paths[number].append(one)
        by_token = (tuple(map(tuple, paths[token * heads : (token + 1) * heads])) for token in range(num_tokens))
        return BlockPaths(name, tuple(self._block.placement.strata), heads, tuple(by_token))
