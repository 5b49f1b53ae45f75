"""COMET of translations, by the package ``unbabel-comet`` and a model on this machine; nothing is downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from smoe_ds.errors import DataError
from smoe_ds.evaluate.held_out import HeldOut
from smoe_ds.text_line import first_line

CHECKPOINT, SETTINGS = "checkpoints/model.ckpt", "hparams.yaml"
"""The files of a COMET model, relative to its folder."""
_BATCH = 16  # sentences; COMET's own default


def check_comet(folder: Path) -> None:
    """Refuses what COMET cannot be computed with, before anything is translated.

    Args:
        folder: of the model.

    Raises:
        DataError: the package is not installed, or the folder is no COMET model.
    """
    missing = [name for name in (SETTINGS, CHECKPOINT) if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"--comet {folder}: is no COMET model, {' and '.join(missing)} missing; name the folder of one such as "
            "Unbabel/wmt22-comet-da that was downloaded whole"
        )
    if find_spec("comet") is None:
        raise DataError("--comet: needs the package unbabel-comet; install it with pip install unbabel-comet")


def comet_scores(
    folder: Path,
    texts: Sequence[HeldOut],
    translations: Mapping[str, Sequence[str]],
    *,
    gpu: bool,
    progress: Callable[[str], None],
) -> dict[str, float]:
    """COMET of every direction, mean over its sentences.

    Args:
        folder: of the model, see `check_comet`.
        texts: sources and references.
        translations: by direction, one per source.
        gpu: whether to compute on a GPU.
        progress: told each direction when it is done.

    Raises:
        DataError: the model cannot be loaded, for example since the encoder it builds on is not on this machine; or it
            fails.
    """
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):  # read when the packages are imported
        os.environ[name] = "1"
    try:
        import comet

        model = comet.load_from_checkpoint(str(folder / CHECKPOINT), reload_hparams=True, local_files_only=True)
    except Exception as error:  # its packages raise whatever they like
        remedy = f"nothing is downloaded here, so the encoder that {SETTINGS} names must be on this machine too"
        raise _problem(folder, "cannot be loaded", error, remedy) from error
    scores = {}
    for text in texts:
        rows = zip(text.sources, translations[text.direction], text.references, strict=True)
        samples = [{"src": source, "mt": translation, "ref": reference} for source, translation, reference in rows]
        try:
            found = model.predict(samples, batch_size=_BATCH, gpus=int(gpu), num_workers=0, progress_bar=False)
        except Exception as error:
            remedy = "leave --comet out; the translations are kept, so that the same command begins here again"
            raise _problem(folder, f"cannot score {text.direction}", error, remedy) from error
        scores[text.direction] = float(found.system_score)
        progress(text.direction)
    return scores


def _problem(folder: Path, what: str, error: Exception, remedy: str) -> DataError:
    return DataError(f"--comet {folder}: {what} ({type(error).__name__}: {first_line(str(error))}); {remedy}")
