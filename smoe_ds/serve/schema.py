"""What the API takes and gives."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TranslateRequest(BaseModel):
    """A text to translate."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": "Two birds sing.\n\nIt rains.", "to": "nso"}]}
    )

    text: str = Field(description="Any number of sentences, lines and paragraphs.")
    to: str = Field(description="Language to translate into, one of the targets of /languages.")
    source: str | None = Field(
        default=None,
        alias="from",
        description="Language of the text. Most models do not need it; those that read it, such as NLLB, refuse a text "
        "without (reads_source of /languages). Abbreviations of some languages are known when sentences are split, and "
        "you are warned if the model was not trained on this direction.",
    )
    n_best: int = Field(
        default=1, ge=1, description="Translations of each sentence, at most as many as /languages says."
    )
    split: bool = Field(
        default=True, description="Split lines into sentences. If false, each line is translated as one sentence."
    )


class Candidate(BaseModel):
    """A translation of a sentence."""

    text: str
    score: float = Field(description="log-probability / length^length_penalty; higher is better.")


class Sentence(BaseModel):
    """A sentence of the text, and its translations, best first."""

    source: str
    translations: list[Candidate]
    truncated: bool = Field(description="The sentence was longer than the model; only its beginning is translated.")


class TranslateAnswer(BaseModel):
    """A translated text."""

    text: str = Field(description="The best translations, with the text's paragraphs and line breaks.")
    to: str
    sentences: list[Sentence]
    warnings: list[str]


class TokensRequest(BaseModel):
    """A sentence whose tokens are to be followed through the strata."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": "Two birds sing.", "from": "eng", "to": "nso"}]}
    )

    text: str = Field(description="One sentence, as an answer of /translate has it under source.")
    to: str = Field(description="Language of the translation, one of the targets of /languages.")
    source: str | None = Field(
        default=None,
        alias="from",
        description="Language of the sentence. Models that read it refuse a sentence without (reads_source of "
        "/languages); for all others it is only shown.",
    )
    translation: str | None = Field(
        default=None, description="The translation whose tokens are followed too; null: what the model translates."
    )


class TokensAnswer(BaseModel):
    """What the tokens of a sentence and its translation took."""

    source: str
    to: str
    translation: str
    truncated: bool = Field(
        description="The sentence or its translation was longer than the model; only the beginning is followed."
    )
    html: str = Field(
        description="One HTML element in which all text is escaped. It needs the files /token_view.css and "
        "/token_view.js, and smoeTokenView(element) once it is inside an element of a page."
    )


class Languages(BaseModel):
    """What can be asked for."""

    model: str
    sources: list[str]
    targets: list[str]
    directions: list[str] | None = Field(description="Trained ones; null where that is not known.")
    n_best: int = Field(description="Most translations of a sentence: the beam size.")
    has_strata: bool = Field(description="Whether /tokens can answer: false for a dense model.")
    reads_source: bool = Field(description="Whether the model reads the language of its input; then from is needed.")
    max_characters: int
    max_sentences: int


class Health(BaseModel):
    """Whether the service can translate."""

    status: str = Field(description="ok, starting or failed; the HTTP status is 503 unless it is ok.")
    workers: int = Field(description="Workers that can translate.")
    waiting: int = Field(description="Sentences that wait for a worker.")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str
