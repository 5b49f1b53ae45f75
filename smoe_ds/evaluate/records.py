"""Translations of finished directions, kept beside the scores so that an evaluation can go on where it was ended.

A direction's record lies beside its translations, ``test.eng-nso.json``. It is written at once, when the direction is
done, and counts only for an evaluation that would make the same translations: same weights, settings of the model and
of decoding, number format, sources and versions. So what a killed evaluation has done is not done again, and neither is
what only another tokenizer, grouping or test is wanted for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from smoe_ds import __version__
from smoe_ds.checkpoints.commit import remove_leftovers, write_text_durably
from smoe_ds.decode.load import TrainedModel
from smoe_ds.evaluate.evaluation import Translated
from smoe_ds.evaluate.held_out import HeldOut
from smoe_ds.evaluate.spread import translations_of


def record_key(model: TrainedModel, checkpoint: Path, text: HeldOut, *, untrained: bool) -> str:
    """A digest of all that the translations of a direction depend on.

    Args:
        model: the model on disk.
        checkpoint: the folder with its weights.
        text: the direction's text.
        untrained: whether the model before training translates too.
    """
    smoe = model.config.to_dict()["smoe"]
    files = [[entry["name"], entry["sha256"]] for entry in model.source(checkpoint)["files"]]
    content = {
        "files": files,
        "smoe": [smoe["model"], smoe["moe"], smoe["decode"], smoe["data"] | {"path": None}, smoe["train"]["seed"]],
        "tokenizer": model.tokenizer.sha256,
        "removed_experts": {block: list(numbers) for block, numbers in model.removed_experts.items()},
        "numbers": [model.dtype, model.device.type],
        "text": [text.direction, list(text.sources)],
        "untrained": untrained,
        "versions": [__version__, torch.__version__],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Records:
    """The records in a folder of translations.

    Args:
        folder: the folder.
        split: that is translated.
        keys: of each direction, see `record_key`.
    """

    def __init__(self, folder: Path, split: str, keys: dict[str, str]) -> None:
        self._folder = folder
        self._split = split
        self._keys = keys

    def file(self, direction: str) -> Path:
        """Where the record of a direction lies, or would."""
        return self._folder / f"{self._split}.{direction}.json"

    def read(self, direction: str) -> Translated | None:
        """The translations of a direction; None if there are none of this key."""
        try:
            content = json.loads(self.file(direction).read_bytes())
            if content["key"] != self._keys[direction]:
                return None
            found = translations_of(content["translations"])
            return Translated(found, content["untrained"], content["seconds"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def write(self, direction: str, done: Translated) -> None:
        """Keeps the translations of a direction.

        Raises:
            OSError: they cannot be written.
        """
        content = {
            "key": self._keys[direction],
            "seconds": done.seconds,
            "untrained": done.untrained,
            "translations": [asdict(translation) for translation in done.translations],
        }
        write_text_durably(self.file(direction), json.dumps(content, ensure_ascii=False) + "\n")

    def forget(self, directions: Sequence[str]) -> None:
        """Removes the records of some directions, and what killed evaluations left half-written in the folder."""
        for direction in directions:
            self.file(direction).unlink(missing_ok=True)
        remove_leftovers(self._folder, f"{self._split}.*")
