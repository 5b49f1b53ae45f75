"""Reading run files: hjson with comments, no duplicate keys, ``extends`` resolved, origins remembered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smoe_ds.config.hjson_text import NotReadableError, parse
from smoe_ds.config.problems import shortened
from smoe_ds.errors import ConfigError
from smoe_ds.regular_file import read_regular

LARGEST_FILE = 256 * 1024
"""Bytes of a run file; those that are shipped have less than 2,000."""
MOST_FILES = 64
"""Files that a run is made of."""
_MOST_KEYS = 200_000
"""Keys of all of a run's files, counted as often as they are laid over others."""


@dataclass
class Layers:
    """A merged tree and, for every key path in it, the file (or ``--set``) that wrote it last."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[tuple[str | int, ...], str] = field(default_factory=dict)

    def put(self, values: dict[str, Any], origin: str, at: tuple[str, ...] = ()) -> None:
        """Lays ``values`` over the tree: objects are merged, everything else, lists too, is replaced."""
        target = self.tree
        for name in at:
            target = target[name]
        for key, value in values.items():
            path = (*at, key)
            self.origins[path] = origin
            if isinstance(value, dict):
                if not isinstance(target.get(key), dict):
                    target[key] = {}
                self.put(value, origin, path)
            else:
                self._forget(path, target.get(key))
                target[key] = value

    def lay(self, other: Layers) -> None:
        """Lays another merged tree over this one, keeping its origins."""
        before = dict(self.origins)
        self.put(other.tree, "")
        self.origins = {path: other.origins.get(path) or before[path] for path in self.origins}

    def _forget(self, path: tuple[str, ...], old: Any) -> None:
        """Drops the origins of what stood inside a value that is replaced."""
        for key, value in old.items() if isinstance(old, dict) else ():
            del self.origins[(*path, key)]
            self._forget((*path, key), value)


def read_file(path: str) -> dict[str, Any]:
    """One file as DeepSpeed reads it: hjson, comments allowed, duplicate keys refused.

    Raises:
        ConfigError: the file is missing, is not UTF-8 or hjson, holds a key twice, or is beyond what a run file can be.
    """
    try:
        text = read_regular(path, LARGEST_FILE).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file; expected a run file such as ds_configs/quickstart.json"]) from None
    except OSError as error:
        remedy = "; expected a run file such as ds_configs/quickstart.json"
        raise ConfigError([f"{shortened(path, 200)}: cannot be read: {error.strerror}{remedy}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8"]) from None
    try:
        tree = parse(text)
    except NotReadableError as error:
        raise ConfigError([f"{path}{error.place}: {error}"]) from None
    if not isinstance(tree, dict):
        raise ConfigError([f"{path}: expected an object {{...}}, found {type(tree).__name__}"])
    return tree


def read_layers(path: str, extends: Any = None) -> Layers:
    """A file laid over all that it extends.

    Args:
        path: the file, relative to the working directory.
        extends: replaces the file's own ``extends`` when not None.

    Raises:
        ConfigError: a file cannot be read, or extends itself; or there are too many of them.
    """
    return _Reader().layers(path, extends)


class _Reader:
    """Reads each file of a run once, however often it is extended."""

    def __init__(self) -> None:
        self._read: dict[str, Layers] = {}
        self._keys = 0

    def layers(self, path: str, extends: Any = None, chain: Sequence[str] = ()) -> Layers:
        """See `read_layers`; ``chain`` are the files that led here, for finding a cycle."""
        real = _real(path)
        if real in chain:
            raise ConfigError([f"{path}: extends: extends itself through {len(chain)} file(s); break the cycle"])
        if path not in self._read:
            self._read[path] = self._laid(path, extends, (*chain, real))
        return self._read[path]

    def _laid(self, path: str, extends: Any, chain: Sequence[str]) -> Layers:
        if len(self._read) + len(chain) > MOST_FILES:
            raise ConfigError([f"{path}: extends: more than {MOST_FILES} files make up this run; put some together"])
        tree = read_file(path)
        own = tree.pop("extends", [])
        layers = Layers()
        for parent in _parents(path, own if extends is None else extends):
            below = self.layers(parent, chain=chain)
            self._keys += len(below.origins)
            if self._keys > _MOST_KEYS:
                raise ConfigError([f"{path}: extends: more than {_MOST_KEYS:,} keys are laid over others; extend less"])
            layers.lay(below)
        layers.put(tree, path)
        return layers


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # no name of a file; reading it says why
        return path


def _parents(path: str, extends: Any) -> list[str]:
    names = [extends] if isinstance(extends, str) else extends
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        shown = shortened(repr(extends), 200)
        raise ConfigError(
            [f'{path}: extends: expected a list of files such as ["engine/cpu_fp32.json"], found {shown}']
        )
    if len(names) > MOST_FILES:
        raise ConfigError([f"{path}: extends: {len(names):,} files; at most {MOST_FILES} can make up a run"])
    parents = [os.path.normpath(Path(path).parent / name) for name in names]
    for parent in parents:
        if not _exists(parent):
            shown = shortened(parent, 200)
            raise ConfigError([f"{path}: extends: no such file {shown}; names are relative to the file that extends"])
    return parents


def _exists(path: str) -> bool:
    try:
        Path(path).stat()
    except (OSError, ValueError):  # ValueError: a NUL character
        return False
    return True
