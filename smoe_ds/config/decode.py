"""``smoe.decode``: beam search."""

from __future__ import annotations

from pydantic import Field

from smoe_ds.config.section import Section


class DecodeConfig(Section):
    """Beam search settings. Defaults are the paper's."""

    beam_size: int = Field(default=5, gt=0, description="Hypotheses kept per sentence.")
    length_penalty: float = Field(
        default=1.0, ge=0, description="Exponent alpha of score = log-probability / length^alpha."
    )
    max_length_factor: float = Field(
        default=1.2, gt=0, description="Longest output: max_length_factor * source tokens + 10."
    )
    max_tokens: int = Field(
        default=8192,
        gt=0,
        description="Budget of a decoding batch: source tokens times beam. In half precision another budget can give "
        "other translations, since batches of other sizes round differently.",
    )
