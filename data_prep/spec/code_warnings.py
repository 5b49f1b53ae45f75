"""Language codes of a specification that look like mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from data_prep.languages.codes import are_one, misspelt
from data_prep.spec.sections import Spec


def code_warnings(spec: Spec) -> Iterator[str]:
    """Codes that nothing is known of, and several codes of one language."""
    for language in spec.languages:
        problem = misspelt(language)
        if problem is not None:
            yield f"{', '.join(pair.pair for pair in spec.pairs if language in pair.languages)}: {problem}"
    for language, other in combinations(spec.languages, 2):
        if are_one(language, other):
            yield f"{language} and {other} are one language, but have a token and directions each; write one code"
