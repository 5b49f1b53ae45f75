"""The run folder: resolved configuration, versions, tokenizer; and whether an earlier run in it can be continued."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from smoe_ds.config.run import RunConfig
from smoe_ds.errors import ConfigError
from smoe_ds.versions import installed_versions

_PACKAGES = ("smoe_ds", "torch", "deepspeed", "sentencepiece", "sacrebleu", "safetensors", "numpy")
_MUST_AGREE = ("model", "moe", "data")
_MAY_DIFFER = {"moe": {"ep_size"}, "data": {"path"}}


def checkpoint_root(folder: Path) -> Path:
    """Where the checkpoints of a run lie."""
    return folder / "checkpoints"


def has_checkpoints(folder: Path) -> bool:
    """Whether a run has saved anything that could be continued."""
    return any(checkpoint_root(folder).glob("step_*[0-9]"))


def write_run_folder(folder: Path, run: RunConfig, tokenizer_file: Path, world_size: int) -> None:
    """Write config.json, environment.json and tokenizer.model; one process calls it."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", run.to_dict())
    _write_json(folder / "environment.json", environment(world_size))
    shutil.copyfile(tokenizer_file, folder / "tokenizer.model")


def environment(world_size: int) -> dict[str, Any]:
    """Versions and machine, for whoever wants to repeat the run."""
    return {
        "versions": installed_versions(_PACKAGES),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "git_commit": _git_commit(),
        "world_size": world_size,
    }


def check_continues(folder: Path, run: RunConfig) -> None:
    """Refuse to continue a run whose model, experts or data were configured otherwise.

    Raises:
        ConfigError: naming each key that differs.
    """
    file = folder / "config.json"
    if not has_checkpoints(folder) or not file.is_file():
        return
    try:
        before = {section: dict(content) for section, content in json.loads(file.read_text("utf-8"))["smoe"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{file}: is damaged ({error}); restore it, or choose another smoe.train.output_dir"
        ) from error
    now = run.to_dict()["smoe"]
    problems = [
        f"smoe.{section}.{key}: {now[section][key]!r}, but the run in {folder} has "
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


def _git_commit() -> str:
    """Commit of the sources, with ``+changes`` where the working tree differs; ``unknown`` outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
