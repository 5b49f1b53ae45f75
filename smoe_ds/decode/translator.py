"""Text in, text out: one answer per line, in the order of the lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from smoe_ds.config.data import DataConfig
from smoe_ds.config.decode import DecodeConfig
from smoe_ds.data.batch import SPECIAL_TOKENS_TGT, Batch, collate, special_tokens_src
from smoe_ds.data.ragged import Ragged
from smoe_ds.data.tidy import tidy
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.decode.batching import batches_by_length
from smoe_ds.decode.beam_search import SpecialTokens, beam_search
from smoe_ds.decode.hypothesis import Hypothesis
from smoe_ds.decode.scorer import score_targets
from smoe_ds.errors import DataError
from smoe_ds.model.transformer import Transformer

Status = Literal["translated", "empty", "truncated"]


@dataclass(frozen=True)
class Translation:
    """The answer to one line.

    Attributes:
        text: one line, without a line break of any kind.
        score: log-probability / length^length_penalty; 0 for an empty line.
        status: ``empty``: nothing of the line is visible, and the answer is empty; ``truncated``: the line had more
            tokens than the model has positions, and only the first of them were translated.
        tokens: token ids of the answer, without the end of sentence.
        num_source_tokens: tokens of the whole line, special tokens included.
    """

    text: str
    score: float
    status: Status
    tokens: tuple[int, ...]
    num_source_tokens: int


class Translator:
    """A model with its tokenizer and settings, on one device.

    Args:
        model: the model; it is put in evaluation mode and on the device.
        tokenizer: the vocabulary it was trained with.
        data: which language tokens its sentences carry.
        decode: beam search settings.
        device: where it runs.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        data: DataConfig,
        decode: DecodeConfig,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.data = data
        self.decode = decode
        self.max_positions = model.config.max_positions
        languages = (tokenizer.language_id(language) for language in tokenizer.languages)
        forbidden = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id, *languages)
        self.special = SpecialTokens(tokenizer.eos_id, forbidden)

    @property
    def max_source_pieces(self) -> int:
        """Longest source that is translated whole, in pieces."""
        return self.max_positions - special_tokens_src(self.data.source_language_token)

    def translate(self, lines: Sequence[str], target_language: str) -> list[Translation]:
        """Translates lines.

        Args:
            lines: sentences; one without anything visible gets an empty answer, an over-long one an answer to its
                beginning.
            target_language: e.g. ``cat``.

        Returns:
            One translation per line, in the order of ``lines``. In float32 it does not depend on the other lines, but
            for rounding; in half precision it can, since batches of other sizes round differently.

        Raises:
            DataError: the vocabulary has no such language.
        """
        language_id = self.tokenizer.language_id(target_language)
        pieces = self._encoded(lines)
        special = special_tokens_src(self.data.source_language_token)
        sources = {i: ids[: self.max_source_pieces] for i, ids in enumerate(pieces) if ids}
        best = self._search(sources, language_id)
        return [
            self._translation(best.get(i), len(ids) + special, len(ids) > self.max_source_pieces)
            for i, ids in enumerate(pieces)
        ]

    def _encoded(self, lines: Sequence[str]) -> list[list[int]]:
        """Pieces of every line, which is tidied as the text that the model was trained on."""
        return self.tokenizer.encode_batch([tidy(line)[0] for line in lines])

    def _search(self, sources: dict[int, list[int]], language_id: int) -> dict[int, Hypothesis]:
        """The best hypothesis of every source, by its number."""
        best: dict[int, Hypothesis] = {}
        for numbers in self._batches(sources):
            batch = self._collate([sources[i] for i in numbers], [()] * len(numbers), language_id)
            found = beam_search(
                self.model,
                batch.src.to(self.device),
                batch.tgt_in[:, 0].to(self.device),
                self.special,
                self.decode,
                self.max_positions,
            )
            best.update(zip(numbers, (hypotheses[0] for hypotheses in found), strict=True))
        return best

    def _batches(self, sources: dict[int, list[int]]) -> list[list[int]]:
        numbers = list(sources)
        special = special_tokens_src(self.data.source_language_token)
        lengths = [len(sources[i]) + special for i in numbers]
        batches = batches_by_length(lengths, self.decode.max_tokens, self.decode.beam_size)
        return [[numbers[place] for place in batch] for batch in batches]

    def _collate(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], language_id: int) -> Batch:
        """A batch framed as in training."""
        return collate(
            Ragged.of(sources),
            Ragged.of(targets),
            np.full(len(sources), language_id, np.int64),
            ("",) * len(sources),
            source_language_token=self.data.source_language_token,
            target_language_token=self.data.target_language_token,
            index=-1,
        )

    def _translation(self, best: Hypothesis | None, num_source_tokens: int, truncated: bool) -> Translation:
        if best is None:
            return Translation("", 0.0, "empty", (), num_source_tokens)
        # Byte pieces can spell any line break that readers of text know, not only "\n".
        text = " ".join(self.tokenizer.decode(best.tokens).splitlines())
        return Translation(text, best.score, "truncated" if truncated else "translated", best.tokens, num_source_tokens)

    def score(self, lines: Sequence[str], targets: Sequence[Sequence[int]], target_language: str) -> list[float]:
        """Scores of given translations; of those that `translate` gave, the same score.

        Args:
            lines: source sentences; an over-long one counts with its beginning, as in `translate`.
            targets: token ids of a translation of each, without special tokens.
            target_language: e.g. ``cat``.

        Returns:
            log-probability / length^length_penalty of each; 0 where line and target are empty.

        Raises:
            DataError: the vocabulary has no such language, a target is longer than the model's positions, or there are
                not as many targets as lines.
        """
        language_id = self.tokenizer.language_id(target_language)
        self._check_targets(lines, targets)
        sources = [ids[: self.max_source_pieces] for ids in self._encoded(lines)]
        scored = [i for i, source in enumerate(sources) if source or targets[i]]
        lengths = [len(sources[i]) + len(targets[i]) for i in scored]
        scores = [0.0] * len(lines)
        for places in batches_by_length(lengths, self.decode.max_tokens):
            numbers = [scored[place] for place in places]
            batch = self._collate([sources[i] for i in numbers], [targets[i] for i in numbers], language_id)
            src, tgt_in, tgt_out = (x.to(self.device) for x in (batch.src, batch.tgt_in, batch.tgt_out))
            result = score_targets(self.model, src, tgt_in, tgt_out, self.decode.length_penalty)
            for i, score in zip(numbers, result.tolist(), strict=True):
                scores[i] = score
        return scores

    def _check_targets(self, lines: Sequence[str], targets: Sequence[Sequence[int]]) -> None:
        if len(lines) != len(targets):
            raise DataError(f"score: {len(lines)} source lines, but {len(targets)} targets; give one target per line")
        longest = self.max_positions - SPECIAL_TOKENS_TGT
        for i, target in enumerate(targets):
            if len(target) > longest:
                raise DataError(
                    f"score: target {i + 1} has {len(target)} tokens, the model takes {longest}; shorten it"
                )
