"""What blocks do with every single token of a text, by the loop over tokens: the oracle of the analysis of routing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smoe_ds.data.corpus import Corpus
from smoe_ds.data.sentences import First
from smoe_ds.data.validation_batches import ValidationBatches
from smoe_ds.decode.translator import Translator
from smoe_ds.moe.layer import StratifiedMoE
from tests.helpers.layers import loop_of, naive_slices
from tests.helpers.naive_moe import Settings


@dataclass(frozen=True)
class Way:
    """The way of a token, or of a slice of one, through a block.

    Attributes:
        choices: experts chosen in each pass.
        entropies: of the gate in each of them [nat].
    """

    choices: Sequence[Sequence[int]]
    entropies: Sequence[float]


@dataclass(frozen=True)
class Token:
    """One token in one block.

    Attributes:
        block: its name.
        direction: of its sentence.
        batch: number of its batch in the direction.
        id: in the vocabulary.
        position: in its sentence, from 1.
        ways: one; in a block with heads one of each slice.
    """

    block: str
    direction: str
    batch: int
    id: int
    position: int
    ways: Sequence[Way]

    @property
    def requested_capacity(self) -> float:
        return sum(len(way.choices) for way in self.ways) / len(self.ways)

    @property
    def side(self) -> str:
        return "encoder" if "encoder" in self.block else "decoder"

    @property
    def language(self) -> str:
        source, target = self.direction.split("-")
        return source if self.side == "encoder" else target


def read_tokens(
    translator: Translator, corpus: Corpus, split: str, directions: Sequence[str], limit: int, settings: Settings
) -> list[Token]:
    """Every token of the first sentences of some directions, in every block.

    Args:
        translator: the model, in float64.
        corpus: with the text.
        split: of it.
        directions: their names.
        limit: sentences of each.
        settings: of all blocks.
    """
    seen: list[tuple[StratifiedMoE, Tensor, Tensor]] = []

    def remember(block: nn.Module, inputs: tuple[Tensor, Tensor, None], _: object) -> None:
        assert isinstance(block, StratifiedMoE)
        seen.append((block, *inputs[:2]))

    blocks = [module for module in translator.model.modules() if isinstance(module, StratifiedMoE)]
    handles = [block.register_forward_hook(remember) for block in blocks]
    ids = {name: corpus.tokenizer.language_id(name) for name in corpus.tokenizer.languages}
    tokens = []
    for direction in directions:
        some = First(corpus.sentences(split, direction), limit)
        batches = ValidationBatches(some, ids, translator.data, max_positions=64, rank=0, world_size=1)
        for number, batch in enumerate(batches):
            seen.clear()
            with torch.no_grad():
                translator.model(batch.src, batch.tgt_in)
                for block, x_BTD, padding_BT in seen:
                    rows = batch.src if "encoder" in block.name else batch.tgt_in
                    ways = _ways(block, settings, x_BTD.flatten(0, 1), padding_BT.flatten().tolist())
                    for n, index in enumerate(rows.flatten().tolist()):
                        if index:
                            place = n % rows.shape[1] + 1
                            tokens.append(Token(block.name, direction, number, index, place, ways[n]))
    for handle in handles:
        handle.remove()
    return tokens


def _ways(block: StratifiedMoE, settings: Settings, x_ND: Tensor, padding_N: list[bool]) -> list[list[Way]]:
    """The ways of each position."""
    heads = block.block.heads
    slices = x_ND if heads == 1 else naive_slices(block, x_ND)
    loop = loop_of(block, settings, slices, [padding for padding in padding_N for _ in range(heads)])
    ways = [Way(*of) for of in zip(loop.choices, loop.entropies, strict=True)]
    return [ways[n * heads : (n + 1) * heads] for n in range(len(x_ND))]
