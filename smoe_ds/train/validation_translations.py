"""Validation sentences translated with the model as it is, to look at and to score: greedily, all ranks in step.

Experts may lie on other ranks, so all ranks take the same steps: sentences are dealt out evenly, and every rank goes on
until the longest translation of all has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smoe_ds.data.batch import PAD_ID, Batch
from smoe_ds.data.framing import EOS_ID, Framing
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.data.validation_batches import ValidationBatches
from smoe_ds.evaluate.metrics import Metrics, Score, metrics_for
from smoe_ds.evaluate.scores import Sample
from smoe_ds.model.transformer import Transformer
from smoe_ds.parallel.agreement import gather_json
from smoe_ds.parallel.env import Env
from smoe_ds.train.stopping import any_rank

_Row = tuple[str, list[int], list[int], list[int]]
"""Direction, source as the model reads it, what the decoder starts with, pieces of the target."""
SHOWN = 2
"""Translations of each direction that are shown."""
_AT_ONCE = 64  # sentences of a rank
_MORE = 10  # tokens beyond twice the longest source


@dataclass(frozen=True)
class TranslatedDirection:
    """The translations of one direction.

    Attributes:
        score: of all of them.
        samples: the first ones.
    """

    score: Score
    samples: tuple[Sample, ...]

    @property
    def text(self) -> str:
        """The samples below each other."""
        rows = [
            (("source", one.source), ("translation", one.translation), ("reference", one.reference))
            for one in self.samples
        ]
        return "\n\n".join("\n".join(f"{name:<12} {text}" for name, text in of) for of in rows)


class ValidationTranslations:
    """Translates the first sentences of each direction's first validation batch.

    Args:
        batches: by direction; its first batch is read here.
        number: sentences of each direction, at most.
        tokenizer: the vocabulary.
        framing: the special tokens around a pair.
        max_positions: of the model.
        env: this process.
        device: where to compute.

    Raises:
        DataError: a file is damaged, or a tokenizer of BLEU is missing.
    """

    def __init__(
        self,
        batches: Mapping[str, ValidationBatches],
        number: int,
        tokenizer: Tokenizer,
        *,
        framing: Framing,
        max_positions: int,
        env: Env,
        device: torch.device,
    ) -> None:
        self._tokenizer, self._env, self._device = tokenizer, env, device
        self._before = framing.before_pieces
        self._rows: list[_Row] = []
        for direction, of_direction in batches.items():
            self._rows += list(_rows(direction, of_direction.first_batch(), number, framing.special_tgt))
        longest = max((len(source) for _, source, _, _ in self._rows), default=0)
        self._limit = min(max_positions + 1 - framing.special_tgt, 2 * longest + _MORE)
        languages = (tokenizer.language_id(language) for language in tokenizer.languages)
        self._forbidden = [tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id, *languages]
        self._metrics: dict[str, Metrics] = {}
        if env.rank == 0:
            self._metrics = {direction: metrics_for(direction.split("-")[1]) for direction in batches}

    def translate(self, model: Transformer) -> dict[str, TranslatedDirection]:
        """Translations and scores by direction, on rank 0; nothing on the others. A collective.

        Args:
            model: the bare model; left in the mode it was in.
        """
        was_training = model.training
        model.eval()
        mine = list(range(self._env.rank, len(self._rows), self._env.world_size))
        rounds = -(-len(self._rows) // self._env.world_size)
        places = mine + [0] * (rounds - len(mine))  # who has fewer takes part with a sentence whose answer is not used
        found: list[list[int]] = []
        for first in range(0, rounds, _AT_ONCE):
            found += self._greedy(model, places[first : first + _AT_ONCE])
        model.train(was_training)
        gathered = gather_json(list(zip(mine, found, strict=False)))
        if self._env.rank:
            return {}
        return self._scored({place: ids for of_rank in gathered for place, ids in of_rank})

    @torch.no_grad()
    def _greedy(self, model: Transformer, places: Sequence[int]) -> list[list[int]]:
        """The likeliest token after the likeliest token, up to the end of the sentence."""
        sources = [torch.tensor(self._rows[place][1]) for place in places]
        src = torch.nn.utils.rnn.pad_sequence(sources, batch_first=True, padding_value=PAD_ID).to(self._device)
        start_BN = torch.tensor([self._rows[place][2] for place in places], device=self._device)
        cache = model.start_decoding(model.encode(src, start=start_BN[:, 0]))
        *given, tokens = start_BN.unbind(1)
        for one in given:
            model.decode_step(one, cache)
        ended = torch.zeros(len(places), dtype=torch.bool, device=self._device)
        steps: list[Tensor] = []
        for _ in range(self._limit):
            logits = model.decode_step(tokens, cache)
            logits[:, self._forbidden] = -torch.inf
            if not steps:
                logits[:, EOS_ID] = -torch.inf  # no empty translation, as beam search has it
            tokens = logits.argmax(dim=1).masked_fill(ended, EOS_ID)
            steps.append(tokens)
            ended |= tokens == EOS_ID
            if not any_rank([not bool(ended.all())], self._device)[0]:
                break
        return [_until_end(row) for row in torch.stack(steps, dim=1).tolist()]

    def _scored(self, found: Mapping[int, Sequence[int]]) -> dict[str, TranslatedDirection]:
        by_direction: dict[str, list[Sample]] = {}
        for place, (direction, source, _, target) in enumerate(self._rows):
            texts = [self._text(ids) for ids in (_until_end(source[self._before :]), found[place], target)]
            by_direction.setdefault(direction, []).append(Sample(direction, *texts))
        return {
            direction: TranslatedDirection(
                self._metrics[direction].score([one.translation for one in of], [one.reference for one in of]),
                tuple(of[:SHOWN]),
            )
            for direction, of in by_direction.items()
        }

    def _text(self, ids: Sequence[int]) -> str:
        return " ".join(self._tokenizer.decode(list(ids)).splitlines())


def _rows(direction: str, batch: Batch, number: int, given: int) -> Iterator[_Row]:
    """The first sentences of a batch; the decoder starts with so many tokens that are given."""
    for src, tgt_in, tgt_out in list(zip(batch.src, batch.tgt_in, batch.tgt_out, strict=True))[:number]:
        target = _until_end(tgt_out[given - 1 :].tolist())
        yield direction, src[src != PAD_ID].tolist(), tgt_in[:given].tolist(), target


def _until_end(ids: Sequence[int]) -> list[int]:
    """What stands before the end of the sentence."""
    return list(ids[: ids.index(EOS_ID)]) if EOS_ID in ids else list(ids)
