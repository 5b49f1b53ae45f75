"""Sources in a specification: any of the kinds that there are readers for, told apart by their required keys."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, Discriminator, Tag

from data_prep.readers import KINDS
from data_prep.readers.source import Source


def _required(model: type[BaseModel]) -> list[str]:
    return [name for name, field in model.model_fields.items() if field.is_required()]


KIND_OF_KEY = {key: name for name, kind in KINDS.items() for key in _required(kind)}


def _kind(value: Any) -> str | None:
    """The kind of source that a mapping describes, told by its keys."""
    if isinstance(value, Source):
        value = _required(type(value))
    if not isinstance(value, (dict, list)):
        return None
    return next((KIND_OF_KEY[key] for key in value if isinstance(key, str) and key in KIND_OF_KEY), None)


def section_in(section: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The section that stands under a key of another, if one does."""
    field = section.model_fields.get(key)
    kind = field.annotation if field is not None else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _as_written(section: type[BaseModel]) -> str:
    """A section with what it cannot do without, e.g. ``{tsv: FILE}``."""
    parts = [(key, section_in(section, key)) for key in _required(section)]
    written = [f"{key}: {'FILE' if part is None else _as_written(part)}" for key, part in parts]
    return f"{{{', '.join(written)}}}"


def _examples() -> str:
    *most, last = map(_as_written, KINDS.values())
    return f"{', '.join(most)} or {last}"


if TYPE_CHECKING:
    AnySource = Source
else:
    AnySource = Annotated[
        reduce(or_, (Annotated[kind, Tag(name)] for name, kind in KINDS.items())),
        Discriminator(_kind, custom_error_type="source_kind", custom_error_message=f"a source is {_examples()}"),
    ]

Sources = Annotated[list[AnySource], BeforeValidator(lambda value: [value] if isinstance(value, dict) else value)]
"""One source, or a list of sources read one after the other."""
