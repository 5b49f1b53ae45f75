"""A process that holds the model and does what batches ask: ``python -m smoe_ds.serve.worker``, for ``pool.py`` alone.

It reads messages from stdin and answers each on stdout: first what to load, then batches, until stdin ends.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.console import take_any_text
from smoe_ds.errors import SmoeError
from smoe_ds.serve.messages import packed, read_message

if TYPE_CHECKING:
    from smoe_ds.decode.translator import Translator


def main() -> int:
    """Loads, then answers until the process in front has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: what is in flight is answered first
    take_any_text()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints comes between the messages

    def send(message: Any) -> None:
        answers.write(packed(message))
        answers.flush()

    try:
        translator = _load(read_message(sys.stdin.buffer))
    except Exception as error:
        send({"error": _one_line(error)})
        return 2
    send({})
    while batch := read_message(sys.stdin.buffer):
        try:
            send({"answers": _WORK[batch["work"]](translator, batch)})
        except BrokenPipeError:
            return 1
        except Exception as error:
            send({"error": _one_line(error)})
    return 0


def _load(model: dict[str, Any]) -> Translator:
    from smoe_ds.decode.load import open_trained

    trained = open_trained(
        Path(model["path"]), model["overrides"], dtype=model["dtype"], device=model["device"], packed=True
    )
    return trained.translator(Path(model["checkpoint"]))


def _translated(translator: Translator, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer for each sentence: its translations with their scores, its tokens, and whether it was cut off."""
    found = translator.n_best(batch["sentences"], batch["to"], batch["n_best"], source_language=batch["source"])
    return [
        {
            "translations": [[answer.text, answer.score] for answer in best],
            "tokens": best[0].num_source_tokens,
            "truncated_at": translator.max_positions if best[0].status == "truncated" else None,
        }
        for best in found
    ]


def _followed(translator: Translator, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer for each sentence: its translation, its token view, and whether one of them was cut off."""
    from smoe_ds.analysis.token_paths import sentence_paths
    from smoe_ds.report.token_view import token_view

    direction, translation = batch["direction"], batch["translation"]
    found = (sentence_paths(translator, direction, sentence, translation) for sentence in batch["sentences"])
    return [
        {"translation": paths.translation, "truncated": paths.cut, "html": str(token_view(paths))} for paths in found
    ]


_WORK = {"translate": _translated, "follow": _followed}


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, SmoeError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    os._exit(main())  # all is written; taking PyTorch apart would keep the process in front waiting for seconds
