"""Reading run files: hjson with comments, no duplicate keys, ``extends`` resolved, origins remembered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hjson

from smoe_ds.errors import ConfigError


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
                    self._forget(path)
                    target[key] = {}
                self.put(value, origin, path)
            else:
                self._forget(path)
                target[key] = value

    def lay(self, other: Layers) -> None:
        """Lays another merged tree over this one, keeping its origins."""
        before = dict(self.origins)
        self.put(other.tree, "")
        self.origins = {path: other.origins.get(path) or before[path] for path in self.origins}

    def _forget(self, path: tuple[str, ...]) -> None:
        for known in [known for known in self.origins if known[: len(path)] == path and known != path]:
            del self.origins[known]


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ConfigError(f"{', '.join(twice)}: written twice in one object; keep one")
    return dict(pairs)


def read_file(path: str) -> dict[str, Any]:
    """One file as DeepSpeed reads it: hjson, comments allowed, duplicate keys refused.

    Raises:
        ConfigError: the file is missing, is not UTF-8 or hjson, or holds a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected a run file such as ds_configs/quickstart.json") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    try:
        tree = hjson.loads(text, object_pairs_hook=_no_duplicates)
    except hjson.HjsonDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}:{error.colno}: is not JSON: {error.msg}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected an object {{...}}, found {type(tree).__name__}")
    return tree


def read_layers(path: str, extends: Any = None, chain: Sequence[str] = ()) -> Layers:
    """A file laid over all that it extends.

    Args:
        path: the file, relative to the working directory.
        extends: replaces the file's own ``extends`` when not None.
        chain: the files that led here, for finding a cycle.

    Raises:
        ConfigError: a file cannot be read, or extends itself.
    """
    real = os.path.realpath(path)
    if real in chain:
        raise ConfigError(f"{path}: extends: extends itself through {len(chain)} file(s); break the cycle")
    tree = read_file(path)
    own = tree.pop("extends", [])
    layers = Layers()
    for parent in _parents(path, own if extends is None else extends):
        layers.lay(read_layers(parent, chain=(*chain, real)))
    layers.put(tree, path)
    return layers


def _parents(path: str, extends: Any) -> list[str]:
    names = [extends] if isinstance(extends, str) else extends
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(
            f'{path}: extends: expected a list of files such as ["engine/cpu_fp32.json"], found {extends!r}'
        )
    parents = [os.path.normpath(Path(path).parent / name) for name in names]
    for parent in parents:
        if not Path(parent).exists():
            raise ConfigError(f"{path}: extends: no such file {parent}; names are relative to the file that extends")
    return parents
