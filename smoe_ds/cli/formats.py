"""How a command prints its result: as text, JSON, Markdown or LaTeX."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smoe_ds.report.pages import Page

FORMATS = ("text", "json", "markdown", "latex")


def add_format(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds ``--format``: how to print what a command finds."""
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help=f"how to print {what}; LaTeX needs the package booktabs (default: text)",
    )


def print_page(page: Page, form: str, content: str) -> None:
    """Prints a result.

    Args:
        page: what it looks like.
        form: one of `FORMATS`.
        content: the result as JSON text.
    """
    shown = {"text": page.text, "json": lambda: content.rstrip("\n"), "markdown": page.markdown, "latex": page.latex}
    print(shown[form](), flush=True)
