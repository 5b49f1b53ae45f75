"""What a run folder records of its run: configuration, environment, vocabulary; compared when the run goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from smoe_ds.config.run import RunConfig
from smoe_ds.errors import ConfigError
from smoe_ds.run.environment import environment
from smoe_ds.run.folder import RunFolder

_MUST_AGREE = ("model", "moe", "data")
_MAY_DIFFER = {"moe": {"ep_size"}, "data": {"path"}}


def write_record(folder: RunFolder, run: RunConfig, tokenizer_file: Path, world_size: int) -> None:
    """Writes configuration, environment and vocabulary; one process calls it."""
    folder.path.mkdir(parents=True, exist_ok=True)
    _write_json(folder.config, run.to_dict())
    _write_json(folder.environment, environment(world_size))
    shutil.copyfile(tokenizer_file, folder.tokenizer)


def check_continues(folder: RunFolder, run: RunConfig) -> None:
    """Refuses to continue a run whose model, experts or data were configured otherwise.

    Raises:
        ConfigError: naming each key that differs.
    """
    if not folder.saved() or not folder.config.is_file():
        return
    try:
        content = json.loads(folder.config.read_text("utf-8"))["smoe"]
        before = {section: dict(keys) for section, keys in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{folder.config}: is damaged ({error}); restore it, or choose another smoe.train.output_dir"
        ) from error
    now = run.to_dict()["smoe"]
    problems = [
        f"smoe.{section}.{key}: {now[section][key]!r}, but the run in {folder.path} has "
        f"{before.get(section, {}).get(key)!r}; set it back, or choose another smoe.train.output_dir"
        for section in _MUST_AGREE
        for key in now[section]
        if key not in _MAY_DIFFER.get(section, ()) and now[section][key] != before.get(section, {}).get(key)
    ]
    if problems:
        raise ConfigError(problems)


def _write_json(file: Path, value: Any) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(file)
