"""Text in, text out: one answer per line, in the order of the lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from smoe_ds.config.data import DataConfig
from smoe_ds.config.decode import DecodeConfig
from smoe_ds.data.batch import Batch, collate
from smoe_ds.data.framing import Framing
from smoe_ds.data.ragged import Ragged
from smoe_ds.data.tidy import tidy
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.decode.alignment import mean_cross_attention
from smoe_ds.decode.batching import batches_by_length
from smoe_ds.decode.beam_search import beam_search
from smoe_ds.decode.constraints import SpecialTokens
from smoe_ds.decode.contrast import ContrastModel
from smoe_ds.decode.hypothesis import Hypothesis
from smoe_ds.decode.languages import LanguageIds, language_ids
from smoe_ds.decode.sampling import sample
from smoe_ds.decode.scorer import score_targets
from smoe_ds.decode.translation import Translation
from smoe_ds.errors import DataError
from smoe_ds.model.transformer import Transformer


def check_n_best(n: int, decode: DecodeConfig) -> None:
    """Refuses more answers than are kept.

    Raises:
        DataError: ``n`` is above the beam size.
    """
    if n > decode.beam_size:
        raise DataError(
            f"the {n} best of each line are asked for, but smoe.decode.beam_size is {decode.beam_size}; "
            f"set it to {n} (--beam {n})"
        )


class Translator:
    """A model with its tokenizer and settings, on one device.

    Args:
        model: the model; it is put in evaluation mode and on the device.
        tokenizer: the vocabulary it was trained with.
        data: which language tokens its sentences carry.
        decode: beam search settings.
        device: where it runs.
        targets: languages that it can translate into; None: all of the vocabulary.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        data: DataConfig,
        decode: DecodeConfig,
        device: torch.device | str = "cpu",
        targets: Sequence[str] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.data = data
        self.framing = Framing.of(data)
        self.decode = decode
        self.targets = targets
        self.contrast = ContrastModel(self.model, decode.contrast) if decode.contrast.strength else None
        self.max_positions = model.config.max_positions
        languages = (tokenizer.language_id(language) for language in tokenizer.languages)
        forbidden = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.unk_id, *languages)
        self.special = SpecialTokens(tokenizer.eos_id, forbidden)

    @property
    def max_source_pieces(self) -> int:
        """Longest source that is translated whole, in pieces."""
        return self.max_positions - self.framing.special_src

    def languages(self, source_language: str | None, target_language: str) -> LanguageIds:
        """What stands for two languages; raises DataError as `translate`."""
        return language_ids(self.tokenizer, self.framing, self.targets, source_language, target_language)

    def translate(
        self, lines: Sequence[str], target_language: str, source_language: str | None = None
    ) -> list[Translation]:
        """Translates lines.

        Args:
            lines: sentences; one without anything visible gets an empty answer, an over-long one an answer to its
                beginning.
            target_language: e.g. ``cat``.
            source_language: e.g. ``eng``; needed where the source carries its own language's token.

        Returns:
            One translation per line, in the order of ``lines``. In float32 it does not depend on the other lines, but
            for rounding; in half precision it can, since batches of other sizes round differently.

        Raises:
            DataError: the vocabulary has no such language, the model was exported without its experts, or the source
                language is needed.
        """
        return [answers[0] for answers in self.n_best(lines, target_language, 1, source_language=source_language)]

    def n_best(
        self,
        lines: Sequence[str],
        target_language: str,
        n: int,
        prefixes: Sequence[str] | None = None,
        first: int = 1,
        source_language: str | None = None,
    ) -> list[list[Translation]]:
        """Several translations of each line, the best ones that the search or the sampling finds.

        Args:
            lines: as in `translate`; one without anything visible, nor a prefix, has one empty answer.
            target_language: e.g. ``cat``.
            n: most answers per line, at most ``smoe.decode.beam_size``; fewer come only where there are no more.
            prefixes: what each answer begins with; an empty one leaves it free.
            first: number of the first line, for messages.
            source_language: as in `translate`.

        Returns:
            The translations of each line, best score first.

        Raises:
            DataError: ``n`` is too large; a prefix is longer than the model's positions; there are not as many
                prefixes as lines; or as in `translate`.
        """
        check_n_best(n, self.decode)
        languages = self.languages(source_language, target_language)
        pieces = self.encoded(lines)
        begun = None if prefixes is None else self.encoded(prefixes)
        if begun is not None:
            self._check_targets("prefix", lines, begun, first)
        sources = {i: ids[: self.max_source_pieces] for i, ids in enumerate(pieces) if ids or (begun and begun[i])}
        found = self._search(sources, languages, n, begun)
        return [
            [
                self._translation(hypothesis, len(ids) + self.framing.special_src, len(ids) > self.max_source_pieces)
                for hypothesis in found.get(i, [None])
            ]
            for i, ids in enumerate(pieces)
        ]

    def encoded(self, lines: Sequence[str]) -> list[list[int]]:
        """Pieces of every line, which is tidied as the text that the model was trained on."""
        return self.tokenizer.encode_batch([tidy(line)[0] for line in lines])

    def _search(
        self, sources: dict[int, list[int]], languages: LanguageIds, n: int, prefixes: Sequence[Sequence[int]] | None
    ) -> dict[int, Sequence[Hypothesis | None]]:
        """The ``n`` best hypotheses of every source, by its number."""
        best: dict[int, Sequence[Hypothesis | None]] = {}
        search: Callable[..., list[list[Hypothesis]]] = partial(beam_search, n_best=n)
        if self.decode.sampling.temperature:
            search = sample
        for numbers in self._batches(sources, prefixes):
            batch = self._collate([sources[i] for i in numbers], [()] * len(numbers), languages)
            found = search(
                self.contrast or self.model,
                batch.src.to(self.device),
                batch.tgt_in.to(self.device),
                self.special,
                self.decode,
                self.max_positions,
                None if prefixes is None else [prefixes[i] for i in numbers],
            )
            best.update(zip(numbers, (hypotheses[:n] for hypotheses in found), strict=True))
        return best

    def _batches(
        self, sources: Mapping[int, Sequence[int]], prefixes: Sequence[Sequence[int]] | None
    ) -> list[list[int]]:
        """Numbers of the sources in each batch; a translation is at least as long as what it begins with."""
        numbers = list(sources)
        lengths = [len(sources[i]) + self.framing.special_src for i in numbers]
        if prefixes is not None:
            begun = [len(prefixes[i]) + self.framing.special_tgt for i in numbers]
            lengths = [max(pair) for pair in zip(lengths, begun, strict=True)]
        batches = batches_by_length(lengths, self.decode.max_tokens, self.decode.beam_size)
        return [[numbers[place] for place in batch] for batch in batches]

    def _collate(
        self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], languages: LanguageIds
    ) -> Batch:
        """A batch framed as in training."""
        return collate(
            Ragged.of(sources),
            Ragged.of(targets),
            np.full(len(sources), languages.source, np.int64),
            np.full(len(sources), languages.target, np.int64),
            ("",) * len(sources),
            framing=self.framing,
            index=-1,
        )

    def pair(
        self, source: Sequence[int], target: Sequence[int], target_language: str, source_language: str | None = None
    ) -> Batch:
        """One sentence pair, framed as in training, for a forward pass of one's own.

        Args:
            source: its pieces; those beyond `max_source_pieces` are left out, as in `translate`.
            target: pieces of a translation; those beyond `max_target_pieces` are left out.
            target_language: e.g. ``cat``.
            source_language: as of `translate`.

        Raises:
            DataError: as `translate`.
        """
        languages = self.languages(source_language, target_language)
        return self._collate([source[: self.max_source_pieces]], [target[: self.max_target_pieces]], languages)

    def _translation(self, best: Hypothesis | None, num_source_tokens: int, truncated: bool) -> Translation:
        if best is None:
            return Translation("", 0.0, "empty", (), num_source_tokens)
        # Byte pieces can spell any line break that readers of text know, not only "\n".
        text = " ".join(self.tokenizer.decode(best.tokens).splitlines())
        return Translation(text, best.score, "truncated" if truncated else "translated", best.tokens, num_source_tokens)

    def score(
        self,
        lines: Sequence[str],
        targets: Sequence[Sequence[int]],
        target_language: str,
        length_penalty: float | None = None,
        source_language: str | None = None,
    ) -> list[float]:
        """Scores of given translations by the usual routing; of those that `translate` gave without contrast, the same.

        Args:
            lines: source sentences; an over-long one counts with its beginning, as in `translate`.
            targets: token ids of a translation of each, without special tokens.
            target_language: e.g. ``cat``.
            length_penalty: 0 gives log-probabilities; None: ``smoe.decode.length_penalty``.
            source_language: as in `translate`.

        Returns:
            log-probability / length^length_penalty of each; 0 where line and target are empty.

        Raises:
            DataError: the vocabulary has no such language, or the model was exported without its experts; a target is
                longer than the model's positions; or there are not as many targets as lines.
        """
        languages = self.languages(source_language, target_language)
        self._check_targets("target", lines, targets)
        alpha = self.decode.length_penalty if length_penalty is None else length_penalty
        sources = [ids[: self.max_source_pieces] for ids in self.encoded(lines)]
        scored = [i for i, source in enumerate(sources) if source or targets[i]]
        scores = [0.0] * len(lines)
        for numbers, src, tgt_in, tgt_out in self._forced(sources, targets, scored, languages):
            result = score_targets(self.model, src, tgt_in, tgt_out, alpha, self.framing.special_tgt - 1)
            for i, score in zip(numbers, result.tolist(), strict=True):
                scores[i] = score
        return scores

    def align(
        self,
        lines: Sequence[str],
        targets: Sequence[Sequence[int]],
        target_language: str,
        source_language: str | None = None,
    ) -> list[list[tuple[int, int]]]:
        """Which source token each token of given translations attends to most, see ``alignment.py``.

        Args:
            lines: source sentences; an over-long one counts with its beginning, as in `translate`.
            targets: token ids of a translation of each, without special tokens.
            target_language: e.g. ``cat``.
            source_language: as in `translate`.

        Returns:
            Of each line, (source position, target position) of every target token; positions count pieces from 0,
            special tokens left out. Nothing where line or target is empty.

        Raises:
            DataError: as in `score`.
        """
        languages = self.languages(source_language, target_language)
        self._check_targets("target", lines, targets)
        sources = [ids[: self.max_source_pieces] for ids in self.encoded(lines)]
        asked = [i for i, source in enumerate(sources) if source and targets[i]]
        before = self.framing.before_pieces
        given = self.framing.special_tgt - 1
        pairs: list[list[tuple[int, int]]] = [[] for _ in lines]
        for numbers, src, tgt_in, _ in self._forced(sources, targets, asked, languages):
            for i, weights_TS in zip(numbers, mean_cross_attention(self.model, src, tgt_in), strict=True):
                pieces_TS = weights_TS[given : given + len(targets[i]), before : before + len(sources[i])]
                pairs[i] = [(place, number) for number, place in enumerate(pieces_TS.argmax(dim=1).tolist())]
        return pairs

    def _forced(
        self,
        sources: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        chosen: Sequence[int],
        languages: LanguageIds,
    ) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
        """Batches of the chosen pairs for forced decoding: their numbers, source, decoder input and target."""
        lengths = [len(sources[i]) + len(targets[i]) for i in chosen]
        for places in batches_by_length(lengths, self.decode.max_tokens):
            numbers = [chosen[place] for place in places]
            batch = self._collate([sources[i] for i in numbers], [targets[i] for i in numbers], languages)
            src, tgt_in, tgt_out = (x.to(self.device) for x in (batch.src, batch.tgt_in, batch.tgt_out))
            yield numbers, src, tgt_in, tgt_out

    @property
    def max_target_pieces(self) -> int:
        """Longest target, or prefix of one, that fits the model, in pieces."""
        return self.max_positions - self.framing.special_tgt

    def _check_targets(self, what: str, lines: Sequence[str], targets: Sequence[Sequence[int]], first: int = 1) -> None:
        if len(lines) != len(targets):
            raise DataError(f"{len(lines)} source lines, but {len(targets)} {what} lines; give one {what} per line")
        for number, target in enumerate(targets, start=first):
            if len(target) > self.max_target_pieces:
                raise DataError(
                    f"{what} {number} has {len(target)} tokens, the model takes {self.max_target_pieces}; shorten it"
                )
