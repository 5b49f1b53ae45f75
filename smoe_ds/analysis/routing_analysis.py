"""Everything that is said of a model in a text: its losses, and its routing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from smoe_ds.analysis.chance import ChanceTest, chance_tests
from smoe_ds.analysis.expert_shares import LanguageShares, StratumLoads, language_shares, stratum_loads
from smoe_ds.analysis.extreme_pieces import ExtremePiece, extreme_pieces
from smoe_ds.analysis.language_tree import Divergences, divergences
from smoe_ds.analysis.losses import GroupLoss, group_losses
from smoe_ds.analysis.pieces import pieces_of
from smoe_ds.analysis.pruning import held_out_batches
from smoe_ds.analysis.requested_capacity import GroupCapacity, group_capacities
from smoe_ds.analysis.routing_use import measure_routing
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.translator import Translator


@dataclass(frozen=True)
class AnalysedText:
    """What was read of one direction.

    Attributes:
        direction: its name.
        train_sentences: sentence pairs that the corpus has to train it on.
        sentences: sentence pairs analysed.
        too_long: those left out as too long.
        src_tokens: input tokens of the encoder, special tokens included.
        tgt_tokens: input tokens of the decoder, likewise.
    """

    direction: str
    train_sentences: int
    sentences: int
    too_long: int
    src_tokens: int
    tgt_tokens: int


@dataclass(frozen=True)
class RoutingAnalysis:
    """The losses and the routing of a model in a text; of a dense model, what is about routing is empty.

    Attributes:
        split: of the corpus.
        limit: sentence pairs per direction at most; None: all.
        corpus: its fingerprint.
        texts: directions, from the one with most training text to the one with least.
        losses: negative log-likelihood by groups of predicted tokens.
        capacities: requested capacity by groups of tokens.
        extremes: pieces of highest and lowest requested capacity.
        shares: choices by language.
        loads: strata.
        divergences: languages, by side.
        tests: whether requested capacity differs by chance only.
    """

    split: str
    limit: int | None
    corpus: str
    texts: tuple[AnalysedText, ...]
    losses: Sequence[GroupLoss]
    capacities: Sequence[GroupCapacity]
    extremes: Sequence[ExtremePiece]
    shares: Sequence[LanguageShares]
    loads: Sequence[StratumLoads]
    divergences: Sequence[Divergences]
    tests: Sequence[ChanceTest]

    @property
    def is_dense(self) -> bool:
        """Whether the model has no blocks of experts."""
        return not self.capacities

    def loss(self, by: str) -> dict[str, float]:
        """Negative log-likelihood per token by group [nat]."""
        return {one.group: one.nll for one in self.losses if one.by == by}

    def capacity(self, side: str, by: str, block: str) -> dict[str, float]:
        """Requested capacity by group; empty for a side without blocks."""
        return {
            one.group: one.requested_capacity
            for one in self.capacities
            if (one.side, one.by, one.block) == (side, by, block)
        }

    def as_json(self) -> dict[str, Any]:
        """What was analysed, and the trees; all other numbers are in tables."""
        return {
            "split": self.split,
            "limit": self.limit,
            "corpus": self.corpus,
            "dense": self.is_dense,
            "directions": [asdict(one) for one in self.texts],
            "trees": {
                one.side: {"newick": f"{one.tree.newick()};", "nested": one.tree.as_json()} for one in self.divergences
            },
        }


def analyse_routing(
    translator: Translator,
    corpus: Corpus,
    split: str,
    directions: Sequence[str],
    limit: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> RoutingAnalysis:
    """Runs a model over text with the targets given, and says what it does with it; alone, without other ranks.

    Args:
        translator: the model.
        corpus: with the text.
        split: of it.
        directions: those to read.
        limit: the first so many sentence pairs of each; None: all.
        progress: told each direction when it is done.

    Raises:
        DataError: the corpus has another vocabulary or no sentence of a direction.
    """
    found = analyse_on_ranks(translator, corpus, split, directions, limit, progress)
    assert found is not None
    return found


def analyse_on_ranks(
    translator: Translator,
    corpus: Corpus,
    split: str,
    directions: Sequence[str],
    limit: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
    rank: int = 0,
    world_size: int = 1,
) -> RoutingAnalysis | None:
    """The same with the batches of each direction spread over ranks: the same numbers. A collective.

    Args:
        translator: the model, all experts of it on every rank.
        corpus: as all that follows, see `analyse_routing`.
        split: of it.
        directions: those to read.
        limit: sentence pairs of each.
        progress: told each direction when all ranks are done with it.
        rank: this process.
        world_size: processes that share the text.

    Returns:
        The analysis on the first rank, None on the others.

    Raises:
        DataError: as `analyse_routing`; or another rank cannot read its text.
    """
    train = {name: len(corpus.sentences("train", name)) for name in directions}
    ordered = sorted(directions, key=lambda name: (-train[name], name))
    batches = held_out_batches(translator, corpus, split, ordered, limit, rank, world_size)
    use = measure_routing(translator, batches, progress)
    if not use:
        return None
    pieces = pieces_of(translator.tokenizer, use.values())
    texts = [
        AnalysedText(name, train[name], of.num_sentences, of.skipped, of.num_src_tokens, of.num_tgt_tokens)
        for name, of in batches.items()
    ]
    shares = language_shares(use)
    return RoutingAnalysis(
        split=split,
        limit=limit,
        corpus=corpus.fingerprint,
        texts=tuple(texts),
        losses=group_losses(use, pieces),
        capacities=group_capacities(use, pieces),
        extremes=extreme_pieces(use, pieces),
        shares=shares,
        loads=stratum_loads(use),
        divergences=divergences(shares),
        tests=chance_tests(use, pieces),
    )
