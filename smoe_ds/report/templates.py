"""The templates of pages: text is escaped, and a name that a page does not get is an error."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from smoe_ds.text_line import spelled_out


def templates_of(package: str) -> Environment:
    """The templates that lie beside a package's modules, and those that all pages share.

    Args:
        package: its dotted name.
    """
    found = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("smoe_ds.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"visible": spelled_out, "visible_lines": lambda text: spelled_out(text, keep="\n")}
    return found


def style_of(templates: Environment, name: str) -> Markup:
    """A style sheet among templates, to be put into a page as it is."""
    assert templates.loader is not None
    return Markup(templates.loader.get_source(templates, name)[0])
