"""The base of every typed configuration section: strict, immutable, with rules between its fields."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A section of the run configuration: strict types, unknown keys refused, immutable.

    A section whose fields depend on each other overrides :meth:`rules`; every broken rule is reported, not only
    the first.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True, allow_inf_nan=False)

    def rules(self) -> Iterator[tuple[str, str]]:
        """Yields ``(field, what is wrong and the remedy)`` for every rule between fields that is broken."""
        return iter(())

    @model_validator(mode="after")
    def _hold_rules(self) -> Section:
        broken = list(self.rules())
        if broken:
            text = "; ".join(f"{field}: {message}" for field, message in broken)
            raise PydanticCustomError("broken_rules", "{text}", {"text": text, "broken": broken})
        return self
