"""The scores of one direction, as ``scores.json`` has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from smoe_ds.evaluate.metrics import Confidence, Score
from smoe_ds.evaluate.significance import Paired


@dataclass(frozen=True)
class DirectionScores:
    """The scores of one direction.

    Attributes:
        direction: e.g. ``eng-nso``.
        sentences: number of them.
        score: of the model.
        copied: of the source in place of a translation.
        untrained: of the model before training; None where it was not asked for.
        empty: sentences without a token.
        truncated: sentences longer than the model takes; only their beginning was translated.
        seconds: time the model took, the untrained one not counted [s].
        translations: file with the translations, relative to the folder of ``scores.json``.
        tokenizer: BLEU's.
        level: its resource level: ``high``, ``low`` and so on; None where it has none.
        text: digest of its sources and references, see `smoe_ds.evaluate.held_out.HeldOut.digest`; "" in scores of
            versions that did not write it.
        confidence: of the scores; None where it was not asked for.
        spbleu: spBLEU beside BLEU; None where its tokenizer is not at hand, or BLEU is it.
        comet: COMET; None where it was not asked for.
        paired: the other run that this one was tested against in this direction; None without one.
        translations_sha256: of the file with the translations; "" in scores of versions that did not write it.
    """

    direction: str
    sentences: int
    score: Score
    copied: Score
    untrained: Score | None
    empty: int
    truncated: int
    seconds: float
    translations: str
    tokenizer: str
    level: str | None = None
    text: str = ""
    confidence: Confidence | None = None
    spbleu: float | None = None
    comet: float | None = None
    paired: Paired | None = None
    translations_sha256: str = ""

    def as_json(self) -> dict[str, Any]:
        """All but the direction, under which ``scores.json`` files it."""
        return {
            "level": self.level,
            "sentences": self.sentences,
            "text": self.text,
            **asdict(self.score),
            "tokenizer": self.tokenizer,
            "spbleu": self.spbleu,
            "comet": self.comet,
            "confidence": asdict(self.confidence) if self.confidence else None,
            "against": asdict(self.paired) if self.paired else None,
            "copied_source": asdict(self.copied),
            "untrained": asdict(self.untrained) if self.untrained else None,
            "empty": self.empty,
            "truncated": self.truncated,
            "seconds": self.seconds,
            "translations": self.translations,
            "translations_sha256": self.translations_sha256,
        }

    @classmethod
    def from_json(cls, direction: str, content: dict[str, Any], tokenizer: str) -> DirectionScores:
        """What `as_json` wrote of a direction.

        Args:
            direction: its name.
            content: what was written.
            tokenizer: BLEU's where the content does not say, since it was one for all.
        """
        own = {name: content[name] for name in ("sentences", "empty", "truncated", "seconds", "translations")}
        return cls(
            direction=direction,
            score=Score(*(content[name] for name in ("bleu", "chrf", "length_ratio"))),
            copied=Score(**content["copied_source"]),
            untrained=Score(**content["untrained"]) if content["untrained"] else None,
            tokenizer=content.get("tokenizer", tokenizer),
            level=content.get("level"),
            text=content.get("text", ""),
            confidence=Confidence(**content["confidence"]) if content.get("confidence") else None,
            spbleu=content.get("spbleu"),
            comet=content.get("comet"),
            paired=Paired(**content["against"]) if content.get("against") else None,
            translations_sha256=content.get("translations_sha256", ""),
            **own,
        )
