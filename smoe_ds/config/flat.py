"""Configurations as dotted keys with their values, and which of these keys only have their default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from smoe_ds.config.deepspeed_sections import DeepSpeedSections
from smoe_ds.config.run import RunConfig


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Keys with dots between them, and their values: text as it is, everything else as JSON."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return found


def keys_at_default(config: RunConfig) -> set[str]:
    """The keys of `flat` of a run that say what would hold without them."""
    sizes = {"train_batch_size": 1, "optimizer": {"type": config.deepspeed["optimizer"]["type"], "params": {"lr": 1.0}}}
    usual = flat(DeepSpeedSections.model_validate(sizes).resolved())
    engine = {key for key, value in flat(config.deepspeed).items() if usual.get(key) == value}
    return engine | set(_at_default(config.smoe, "smoe."))


def _at_default(section: BaseModel, prefix: str) -> Iterator[str]:
    """Keys of a section, and of those in it: each section is compared with the defaults of its own kind."""
    written = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if not field.is_required() and value == field.get_default(call_default_factory=True):
            yield from flat({name: written[name]}, prefix)
        elif isinstance(value, BaseModel):
            yield from _at_default(value, f"{prefix}{name}.")
        elif isinstance(value, Mapping):
            for key, one in value.items():
                if isinstance(one, BaseModel):
                    yield from _at_default(one, f"{prefix}{name}.{key}.")
