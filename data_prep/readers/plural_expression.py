"""The expression of a catalog's ``Plural-Forms``: a small language like C, parsed and calculated here, never executed.

``n%10==1 && n%100!=11 ? 0 : n != 0 ? 1 : 2`` says which form of a message belongs to the number ``n``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

_TOKEN = re.compile(r"\s*(?:(\d+|n\b|&&|\|\||[<>=!]=|[<>!?:()+\-*/%])|$)")
_MAX_TOKENS, _MAX_DEPTH = 400, 40  # the longest in use have about 150 and 10
_WORD = (1 << 64) - 1  # gettext calculates in unsigned long
_BINARY: tuple[dict[str, Callable[[int, int], int]], ...] = (  # what binds loosely comes first
    {"||": operator.or_},  # these two look at their right side only if they must, see `_applied`
    {"&&": operator.and_},
    {"==": operator.eq, "!=": operator.ne},
    {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge},
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": operator.floordiv, "%": operator.mod},
)

Form = Callable[[int], int]
"""A number to the form that goes with it."""


def plural_expression(text: str) -> Form:
    """Parses an expression.

    Args:
        text: without the semicolon at its end.

    Returns:
        The function of ``n``; it raises ZeroDivisionError where the expression divides by zero.

    Raises:
        ValueError: the text is no such expression, or far longer than any language needs.
    """
    parser = _Parser(_tokens(text))
    form = parser.expression()
    if parser.tokens:
        raise ValueError(f"unexpected {parser.tokens[-1]!r}")
    return form


def _tokens(text: str) -> list[str]:
    """The tokens, last one first."""
    tokens: list[str] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"unexpected {text[place:].split()[0][:20]!r}")
        if match[1]:
            tokens.append(match[1])
        place = max(match.end(), place + 1)
    if len(tokens) > _MAX_TOKENS:
        raise ValueError(f"more than {_MAX_TOKENS} operators and operands")
    return tokens[::-1]


class _Parser:
    """Recursive descent, as the grammar has it."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self._depth = 0

    def expression(self) -> Form:
        """A condition with its two results, or an operation."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} expressions within each other")
        condition = self._operation(0)
        if self._take("?"):
            yes = self.expression()
            self._expect(":")
            no = self.expression()
            self._depth -= 1
            return lambda n: yes(n) if condition(n) else no(n)
        self._depth -= 1
        return condition

    def _operation(self, level: int) -> Form:
        if level == len(_BINARY):
            return self._operand()
        left = self._operation(level + 1)
        while self.tokens and (operate := _BINARY[level].get(self.tokens[-1])):
            self.tokens.pop()
            left = _applied(operate, left, self._operation(level + 1))
        return left

    def _operand(self) -> Form:
        negations = 0
        while self._take("!"):
            negations += 1
        token = self.tokens.pop() if self.tokens else "the end"
        if token == "(":
            inner = self.expression()
            self._expect(")")
        elif token == "n":
            inner = _identity
        elif token.isdecimal():
            inner = _constant(int(token) & _WORD)
        else:
            raise ValueError(f"{token!r} where a number, n or ( is expected")
        return _negated(inner, negations) if negations else inner

    def _take(self, token: str) -> bool:
        found = bool(self.tokens) and self.tokens[-1] == token
        if found:
            self.tokens.pop()
        return found

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise ValueError(f"{self.tokens[-1] if self.tokens else 'the end'!r} where {token!r} is expected")


def _applied(operate: Callable[[int, int], int], left: Form, right: Form) -> Form:
    if operate is operator.or_:
        return lambda n: int(bool(left(n) or right(n)))
    if operate is operator.and_:
        return lambda n: int(bool(left(n) and right(n)))
    return lambda n: int(operate(left(n), right(n))) & _WORD


def _identity(n: int) -> int:
    return n


def _constant(number: int) -> Form:
    return lambda n: number


def _negated(inner: Form, times: int) -> Form:
    return lambda n: int(bool(inner(n)) is (times % 2 == 0))
