"""What a run was made with, for whoever wants to repeat it: versions, machine, commit of the sources."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

from smoe_ds.versions import installed_versions

_PACKAGES = ("smoe_ds", "torch", "deepspeed", "sentencepiece", "sacrebleu", "safetensors", "numpy")


def environment(world_size: int) -> dict[str, Any]:
    """Versions, machine, commit and number of ranks, as JSON."""
    return {
        "versions": installed_versions(_PACKAGES),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "git_commit": _git_commit(),
        "world_size": world_size,
    }


def _git_commit() -> str:
    """Commit of the sources, with ``+changes`` where the working tree differs; ``unknown`` outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes else "")


def _git(*words: str) -> str:
    here = Path(__file__).resolve().parent
    return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
