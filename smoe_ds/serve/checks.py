"""What is wrong with a request, whatever it asks for."""

from __future__ import annotations

from smoe_ds.data.tidy import VISIBLE
from smoe_ds.serve.errors import RefusedError
from smoe_ds.serve.settings import Known, Limits
from smoe_ds.text_line import spelled_out


def check_length(field: str, text: str, limits: Limits) -> None:
    """Refuses a text that is too long.

    Args:
        field: of the request.
        text: what it holds.
        limits: most characters.

    Raises:
        RefusedError: it is longer.
    """
    if len(text) > limits.characters:
        raise RefusedError(
            413, f"{field}: has {len(text)} characters, the service takes {limits.characters}; send it in parts"
        )


def check_languages(to: str, source: str | None, known: Known) -> None:
    """Refuses languages that the model does not know.

    Raises:
        RefusedError: one is unknown, or the source's is not given to a model that reads it.
    """
    if to not in known.targets:
        raise _unknown("to", to, known.targets)
    if source is None and known.reads_source:
        raise RefusedError(422, "from: is missing, but the model reads the language of its input; name it")
    if source is not None and source not in known.sources:
        raise _unknown("from", source, known.sources)


def check_visible(text: str) -> None:
    """Refuses a text with nothing in it.

    Raises:
        RefusedError: it has no visible character.
    """
    if not VISIBLE.search(text):
        raise RefusedError(422, "text: is empty; send at least one visible character")


def _unknown(field: str, language: str, known: tuple[str, ...]) -> RefusedError:
    shown = spelled_out(language if len(language) <= 40 else f"{language[:40]}...")
    return RefusedError(422, f"{field}: unknown language '{shown}'; the model knows: {', '.join(known)}")
