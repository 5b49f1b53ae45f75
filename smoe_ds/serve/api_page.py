"""The page that describes the API, made of its OpenAPI description; it needs no script and nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Undefined

_FOLDER = Path(__file__).parent / "page"


def api_page(description: dict[str, Any]) -> str:
    """HTML.

    Args:
        description: OpenAPI 3, as FastAPI makes it.
    """
    environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=Undefined)
    environment.filters["kind"] = _kind
    return environment.get_template("docs.html").render(api=description, schemas=description["components"]["schemas"])


def _kind(schema: dict[str, Any]) -> str:
    """The type of a field in words: ``string``, ``list of Sentence``, ``string or null``."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("type", "any"))
