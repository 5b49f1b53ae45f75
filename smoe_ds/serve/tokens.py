"""A request for the paths of a sentence's tokens through the strata, from the sentence to the token view."""

from __future__ import annotations

from smoe_ds.data.tidy import REMOVED
from smoe_ds.report.token_view import UNDETERMINED
from smoe_ds.serve.checks import check_languages, check_length, check_visible
from smoe_ds.serve.errors import RefusedError
from smoe_ds.serve.in_flight import Gone, InFlight
from smoe_ds.serve.schema import TokensAnswer, TokensRequest
from smoe_ds.serve.sentences import split_text
from smoe_ds.serve.settings import Known, Limits
from smoe_ds.serve.work import Follow


class TokenPaths:
    """Answers requests through workers.

    Args:
        in_flight: the workers, and who waits for them.
        known: what the model can.
        limits: what is refused.
    """

    def __init__(self, in_flight: InFlight, known: Known, limits: Limits) -> None:
        self._in_flight = in_flight
        self._known = known
        self._limits = limits

    async def answer(self, request: TokensRequest, gone: Gone) -> TokensAnswer | None:
        """Follows the tokens of one sentence.

        Args:
            request: the sentence, and its translation where that is given.
            gone: returns when nobody waits for the answer any more.

        Returns:
            the answer; None if the client has gone.

        Raises:
            RefusedError: the model is dense, or the request is against the limits, is no single sentence, or takes
                too long.
        """
        self._check(request)
        with self._in_flight.place():
            sentence = _only_sentence(request.text)
            translation = None if request.translation is None else REMOVED.sub("", request.translation)
            work = Follow(f"{request.source or UNDETERMINED}-{request.to}", translation)
            answers = await self._in_flight.answers([sentence], work, gone)
        return None if answers is None else TokensAnswer(source=sentence, to=request.to, **answers[0])

    def _check(self, request: TokensRequest) -> None:
        if not self._known.has_strata:
            raise RefusedError(422, "the model is dense: it has no strata that tokens could pass; use /translate")
        check_length("text", request.text, self._limits)
        check_length("translation", request.translation or "", self._limits)
        check_languages(request.to, request.source, self._known)
        check_visible(request.text)


def _only_sentence(text: str) -> str:
    lines = split_text(text, sentences=False).sentences
    check_visible("".join(lines))
    if len(lines) > 1:
        raise RefusedError(
            422, f"text: has {len(lines)} lines; send one sentence, as the answer of /translate has it under 'source'"
        )
    return lines[0]
