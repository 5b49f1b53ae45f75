"""``smoe.decode``: beam search, sampling, and what an output may be."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from smoe_ds.config.section import Section


class SamplingConfig(Section):
    """Outputs drawn from the model's distribution instead of searched for."""

    temperature: float = Field(
        default=0.0,
        ge=0,
        description="Divides the logits before a token is drawn: 1 draws from the model's own distribution, less than "
        "1 prefers likely tokens. 0: beam search, no sampling. beam_size outputs are drawn per sentence, the one with "
        "the best score is kept; with beam_size 1 that is one plain sample.",
    )
    top_k: int = Field(default=0, ge=0, description="Draw among the top_k likeliest tokens only. 0: among all.")
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Draw among the likeliest tokens that together have this probability (nucleus sampling), after "
        "temperature and top_k. 1: among all.",
    )
    seed: int = Field(
        default=1,
        ge=0,
        description="Of the random numbers. A sentence's samples depend on this seed and the sentence, not on its "
        "batch; equal sentences get equal samples.",
    )

    def rules(self) -> Iterator[tuple[str, str]]:
        for field, is_set in (("top_k", self.top_k > 0), ("top_p", self.top_p < 1)):
            if is_set and not self.temperature:
                yield field, "has no effect without sampling; set temperature too, for example to 1"


class ContrastConfig(Section):
    """Tokens that the usual routing prefers to a weak routing of the same decoder (SCMoE, arXiv 2405.14507)."""

    strength: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Logits become (1 + strength) * usual - strength * weak. The paper tries 0.1 to 0.9. 0: off. It "
        "doubles the work of a step.",
    )
    plausibility: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Only tokens count that have at least this share of the best one's probability by usual routing.",
    )
    weak_place: int = Field(
        default=2,
        gt=0,
        description="With weak routing a gate takes one expert alone, that at this place of its order; 1: the best.",
    )


class DecodeConfig(Section):
    """Beam search settings. Defaults are the paper's."""

    beam_size: int = Field(default=5, gt=0, description="Hypotheses kept per sentence.")
    length_penalty: float = Field(
        default=1.0, ge=0, description="Exponent alpha of score = log-probability / length^alpha."
    )
    max_length_factor: float = Field(
        default=1.2, gt=0, description="Longest output: max_length_factor * source tokens + 10."
    )
    min_length: int = Field(
        default=1,
        gt=0,
        description="Fewest tokens of an output, the end of sentence not counted; the longest output has priority.",
    )
    no_repeat_ngram: int = Field(
        default=0, ge=0, description="No sequence of this many tokens comes twice in an output. 0: it may."
    )
    max_tokens: int = Field(
        default=8192,
        gt=0,
        description="Budget of a decoding batch: source tokens, or those of a forced prefix where it is longer, times "
        "beam. In half precision another budget can give other translations, since batches of other sizes round "
        "differently.",
    )
    sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(), description="Draw outputs instead of searching for them."
    )
    contrast: ContrastConfig = Field(
        default_factory=lambda: ContrastConfig(), description="Decode by the difference of two ways of routing."
    )
