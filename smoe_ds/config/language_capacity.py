"""``smoe.model.language_capacity``: parts of the model that a language has for itself."""

from __future__ import annotations

from pydantic import Field

from smoe_ds.config.section import Section

FIRST_LANGUAGE_ID = 4
"""Vocabulary id of the first language token; the others follow it."""


class LanguageCapacity(Section):
    """After each sub-layer a gate takes the target language's projection, one set a stack, or a shared one.

    Source: CLSR, Zhang et al., ICLR 2021, "Share or not? Learning to schedule language-specific capacity".
    """

    languages: int = Field(
        default=0,
        ge=0,
        description="Number of languages that the vocabulary has a token for. 0: nothing is language-specific.",
    )
    share: float = Field(
        default=0.3, ge=0, le=1, description="Share of tokens and sub-layers that are to use their language's matrix."
    )
    weight: float = Field(default=1.0, ge=0, description="Weight of the loss |mean gate - share|.")
    noise: float = Field(
        default=5.0,
        ge=0,
        description="Standard deviation of the noise on the gates at max_steps; it grows from 0 in a straight line and "
        "drives the gates to 0 or 1, which is what evaluation rounds them to.",
    )
    gate_width: int = Field(default=128, gt=0, description="Inner width of a gate.")
