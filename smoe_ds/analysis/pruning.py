"""Which experts a set of directions needs, from how often each is chosen in held-out sentences of these directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from smoe_ds.analysis.expert_use import ExpertUse, count_choices
from smoe_ds.config.block import BlockSettings
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.sentences import First, SentencePairs
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.data.validation_batches import ValidationBatches
from smoe_ds.decode.translator import Translator
from smoe_ds.errors import ConfigError, DataError
from smoe_ds.moe.placement import Placement
from smoe_ds.weights.pruned import placement_of


@dataclass(frozen=True)
class KeepRule:
    """What is kept of each block: a number of experts, or those that are used enough; all that are used at all where
    neither is given.

    Attributes:
        number: experts kept per block.
        share: least share of a direction's choices in the block; an expert is kept if any direction gives it that.
    """

    number: int | None = None
    share: float | None = None


@dataclass(frozen=True)
class Pruning:
    """Which experts go, and from what that was decided.

    Attributes:
        rule: what is kept.
        directions: those the model is to serve.
        split: held-out text whose choices were counted; None where a direction's experts are fixed.
        corpus: fingerprint of the corpus with that text; None without.
        use: choices by direction and block.
        removed: logical numbers of the experts that go, by block name.
        num_experts: experts of each whole block.
        too_long: sentence pairs by direction that were left out of the count as too long; none: no entry.
        targets: the target languages that are left; None: all.
    """

    rule: KeepRule
    directions: tuple[str, ...]
    split: str | None
    corpus: str | None
    use: Mapping[str, Mapping[str, ExpertUse]]
    removed: Mapping[str, Sequence[int]]
    num_experts: Mapping[str, int]
    too_long: Mapping[str, int]
    targets: tuple[str, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """As an export keeps it, beside the removed experts."""
        return {
            "rule": asdict(self.rule),
            "directions": list(self.directions),
            "targets": None if self.targets is None else list(self.targets),
            "split": self.split,
            "corpus": self.corpus,
            "too_long": dict(self.too_long),
            "use": use_as_json(self.use),
        }


def choose_experts(
    translator: Translator,
    corpus: Corpus,
    split: str,
    directions: Sequence[str],
    blocks: Mapping[str, BlockSettings],
    rule: KeepRule,
) -> Pruning:
    """Counts choices, and decides by them which experts go.

    Args:
        translator: the whole model.
        corpus: with the text to count on.
        split: of it.
        directions: those the model is to serve.
        blocks: settings of its blocks by name.
        rule: what is kept.

    Raises:
        ConfigError: the rule asks for a number of experts that cannot be, or a router cannot do without some.
        DataError: the corpus has another vocabulary or no sentence of a direction.
    """
    check_prunable(blocks)
    batches = held_out_batches(translator, corpus, split, directions)
    use = measure_use(translator, batches)
    return Pruning(
        rule=rule,
        directions=tuple(directions),
        split=split,
        corpus=corpus.fingerprint,
        use=use,
        removed=experts_to_remove(use, blocks, rule),
        num_experts={name: sum(block.strata) for name, block in blocks.items()},
        too_long={direction: one.skipped for direction, one in batches.items() if one.skipped},
    )


def check_prunable(blocks: Mapping[str, BlockSettings]) -> None:
    """Refuses blocks that cannot do without some of their experts.

    Raises:
        ConfigError: names the first such block.
    """
    for name, block in blocks.items():
        if problem := block.pruning_problem():
            raise ConfigError(f"{name}: {problem}; export all of them")


def fewest_kept(placement: Placement, top_k: int) -> list[int]:
    """Experts that each stratum must keep: one, and as many as a token chooses where its gate sees no later stratum."""
    last = len(placement.strata) - 1
    return [top_k if placement.stacked or i == last else 1 for i in range(len(placement.strata))]


def experts_to_keep(score_E: Tensor, placement: Placement, top_k: int, rule: KeepRule) -> list[int]:
    """Logical numbers of the experts of one block that stay, ascending.

    Args:
        score_E: how much an expert is used [E]; of equal ones the lower number stays.
        placement: strata of the block.
        top_k: choices per token.
        rule: how many. Each stratum keeps at least its most used ones, see `fewest_kept`.

    Raises:
        ConfigError: a number that is not between the fewest possible and all.
    """
    ranking = sorted(range(placement.num_experts), key=lambda e: (-float(score_E[e]), e))
    kept: set[int] = set()
    for i, needed in enumerate(fewest_kept(placement, top_k)):
        kept.update([e for e in ranking if placement.stratum_of(e) == i][:needed])
    if rule.share is not None:
        kept.update(e for e in ranking if float(score_E[e]) >= rule.share)
    if rule.share is None and rule.number is None:
        kept.update(e for e in ranking if float(score_E[e]) > 0)
    if rule.number is not None:
        if not len(kept) <= rule.number <= placement.num_experts:
            raise ConfigError(
                f"--keep-experts {rule.number}: expected {len(kept)} to {placement.num_experts}: each stratum of "
                f"{list(placement.strata)} keeps an expert, and a token's last gate sees top_k = {top_k}"
            )
        others = [e for e in ranking if e not in kept]
        kept.update(others[: rule.number - len(kept)])
    return sorted(kept)


def measure_use(translator: Translator, batches: Mapping[str, ValidationBatches]) -> dict[str, dict[str, ExpertUse]]:
    """Choices per direction and block over all sentences, the references given."""
    return {name: count_choices(translator.model, one, translator.device) for name, one in batches.items()}


def check_vocabulary(tokenizer: Tokenizer, corpus: Corpus) -> None:
    """Refuses a corpus whose ids are not the model's.

    Raises:
        DataError: it has another vocabulary.
    """
    if corpus.tokenizer.sha256 != tokenizer.sha256:
        raise DataError(
            f"{corpus.path}: was prepared with another vocabulary than the model's; name the corpus the model was "
            "trained on with --data"
        )


def held_out_batches(
    translator: Translator,
    corpus: Corpus,
    split: str,
    directions: Sequence[str],
    limit: int | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> dict[str, ValidationBatches]:
    """All sentence pairs of a split by direction, or the first ``limit`` of each, but for those that are too long.

    Batches are dealt over ranks.

    Raises:
        DataError: the corpus has another vocabulary or no sentence of a direction.
    """
    check_vocabulary(translator.tokenizer, corpus)

    def sentences(direction: str) -> SentencePairs:
        every = corpus.sentences(split, direction)
        return every if limit is None else First(every, limit)

    return {
        direction: ValidationBatches(
            sentences(direction),
            translator.tokenizer.language_ids,
            translator.data,
            max_positions=translator.max_positions,
            rank=rank,
            world_size=world_size,
        )
        for direction in directions
    }


def experts_to_remove(
    use: Mapping[str, Mapping[str, ExpertUse]], blocks: Mapping[str, BlockSettings], rule: KeepRule
) -> dict[str, list[int]]:
    """Logical numbers by block name; an expert's score is its share of choices in the direction that uses it most."""
    removed = {}
    for name, block in blocks.items():
        score_E = torch.stack([of_direction[name].share_E for of_direction in use.values()]).amax(0)
        placement = placement_of(block)
        kept = experts_to_keep(score_E, placement, block.router.fewest_experts(block), rule)
        removed[name] = [e for e in range(placement.num_experts) if e not in kept]
    return removed


def use_as_json(use: Mapping[str, Mapping[str, ExpertUse]]) -> dict[str, Any]:
    """First and all choices by direction, block and expert."""
    return {
        direction: {
            block: {"first_choices": counts.first_E.tolist(), "choices": counts.all_E.tolist()}
            for block, counts in of_direction.items()
        }
        for direction, of_direction in use.items()
    }
