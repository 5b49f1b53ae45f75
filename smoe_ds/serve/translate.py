"""A request for a translation, from its text to its answer, within the limits."""

from __future__ import annotations

from smoe_ds.serve.checks import check_languages, check_length, check_visible
from smoe_ds.serve.errors import RefusedError
from smoe_ds.serve.in_flight import Gone, InFlight
from smoe_ds.serve.metrics import Metrics
from smoe_ds.serve.queue import Answer
from smoe_ds.serve.schema import Candidate, Sentence, TranslateAnswer, TranslateRequest
from smoe_ds.serve.sentences import SplitText, split_text
from smoe_ds.serve.settings import Known, Limits
from smoe_ds.serve.work import Translate


class Translation:
    """Answers requests through workers.

    Args:
        in_flight: the workers, and who waits for them.
        known: what the model can.
        limits: what is refused.
        metrics: told what happens.
    """

    def __init__(self, in_flight: InFlight, known: Known, limits: Limits, metrics: Metrics) -> None:
        self._in_flight = in_flight
        self._known = known
        self._limits = limits
        self._metrics = metrics

    async def answer(self, request: TranslateRequest, gone: Gone) -> TranslateAnswer | None:
        """Translates a text.

        Args:
            request: the text.
            gone: returns when nobody waits for the answer any more.

        Returns:
            the answer; None if the client has gone.

        Raises:
            RefusedError: it is against the limits, asks for what the model cannot do, or takes too long.
        """
        self._check(request)
        with self._in_flight.place():
            text = split_text(request.text, request.source, sentences=request.split)
            self._check_sentences(text)
            work = Translate(request.to, request.n_best, request.source if self._known.reads_source else None)
            answers = await self._in_flight.answers(text.sentences, work, gone)
        return None if answers is None else self._composed(request, text, answers)

    def _check(self, request: TranslateRequest) -> None:
        check_length("text", request.text, self._limits)
        check_languages(request.to, request.source, self._known)
        if request.n_best > self._known.n_best:
            raise RefusedError(
                422,
                f"n_best: is {request.n_best}, but the beam size is {self._known.n_best}; ask for at most that many",
            )
        check_visible(request.text)

    def _check_sentences(self, text: SplitText) -> None:
        number, most = len(text.sentences), self._limits.sentences
        if number > most:
            raise RefusedError(413, f"text: has {number} sentences, the service takes {most}; send it in parts")
        check_visible("".join(text.sentences))

    def _composed(self, request: TranslateRequest, text: SplitText, answers: list[Answer]) -> TranslateAnswer:
        self._metrics.sentences.inc(len(answers))
        self._metrics.characters.inc(len(request.text))
        sentences = [
            Sentence(
                source=source,
                translations=[Candidate(text=one, score=score) for one, score in answer["translations"]],
                truncated=answer["truncated_at"] is not None,
            )
            for source, answer in zip(text.sentences, answers, strict=True)
        ]
        return TranslateAnswer(
            text=text.joined([sentence.translations[0].text for sentence in sentences]),
            to=request.to,
            sentences=sentences,
            warnings=[*self._untrained(request), *_truncated(answers)],
        )

    def _untrained(self, request: TranslateRequest) -> list[str]:
        direction = f"{request.source}-{request.to}"
        if request.source is None or self._known.directions is None or direction in self._known.directions:
            return []
        return [f"the model was not trained on {direction}"]


def _truncated(answers: list[Answer]) -> list[str]:
    return [
        f"sentence {number}: has {answer['tokens']} tokens, the model takes {answer['truncated_at']}; only its "
        "beginning is translated, split it"
        for number, answer in enumerate(answers, start=1)
        if answer["truncated_at"] is not None
    ]
