"""What makes a run of a study another one: its settings, its number of ranks and the text that it is trained on.

A run is written down with all of its settings, those that have their default too. An earlier run is the same if all
that both know is equal, and what only the newer program knows has its default. So results stay with their runs when
the program learns a new key, and part from them when a default changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smoe_ds.checkpoints.commit import write_text_durably
from smoe_ds.config.flat import flat, keys_at_default
from smoe_ds.config.run import RunConfig
from smoe_ds.data.manifest import MANIFEST, files_digest, read_manifest
from smoe_ds.run.folder import RunFolder

_OUTPUT, _DATA = "smoe.train.output_dir", "smoe.data.path"


@dataclass(frozen=True)
class Identity:
    """One run, as rows and the files beside run folders have it.

    Attributes:
        settings: every key and its value, but for the run folder.
        ranks: number of them; None where an earlier version did not write it down.
        corpus: digest of the corpus's files by its manifest; None without one, and in what earlier versions wrote.
            Where both runs have one, it stands in for the path of the corpus.
    """

    settings: Mapping[str, str]
    ranks: int | None
    corpus: str | None

    @staticmethod
    def of(config: RunConfig, ranks: int, corpus: str | None) -> Identity:
        """That of a run, see `corpus_digest`."""
        return Identity(_settings(config.to_dict()), ranks, corpus)

    @property
    def fingerprint(self) -> str:
        """Eight digits, for the name of a run folder."""
        left_out = {_DATA} if self.corpus else set()
        settings = {key: value for key, value in self.settings.items() if key not in left_out}
        return _digest([settings, self.ranks, self.corpus])

    def continues(self, earlier: Identity, at_default: set[str]) -> bool:
        """Whether an earlier run is this one.

        Args:
            earlier: that run.
            at_default: keys of this one that have their default.
        """
        known = bool(self.corpus and earlier.corpus)
        if (known and self.corpus != earlier.corpus) or earlier.ranks not in (None, self.ranks):
            return False
        left_out = {_DATA} if known else set()
        own, other = ({k: v for k, v in one.settings.items() if k not in left_out} for one in (self, earlier))
        unknown = {key for key in own if key not in other}
        return all(own.get(key) == value for key, value in other.items()) and unknown <= at_default


def earlier_fingerprint(config: RunConfig) -> str:
    """What versions before identities were written down called a run: its settings alone."""
    content = config.to_dict()
    content["smoe"]["train"] = {key: value for key, value in content["smoe"]["train"].items() if key != "output_dir"}
    return _digest(content)


def written_identity(folder: Path) -> Identity | None:
    """That of a run folder: as `write_identity` left it beside it, or by the configuration that a version before that
    left in it; None where neither is there."""
    run = RunFolder(folder)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return Identity(**json.loads(_file(folder).read_bytes()))
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        config = json.loads(run.config.read_bytes())
        ranks = json.loads(run.environment.read_bytes()).get("world_size") if run.environment.is_file() else None
        return Identity(_settings(config), ranks, None)
    return None


def write_identity(folder: Path, identity: Identity) -> None:
    """Writes down what a run is before it is trained.

    Raises:
        OSError: it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_text_durably(_file(folder), json.dumps(asdict(identity), ensure_ascii=False, indent=1) + "\n")


def _file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def corpus_digest(folder: Path) -> str | None:
    """Digest of the files of a corpus, as its manifest has them; None where there is no corpus.

    Raises:
        DataError: the manifest is damaged.
    """
    return files_digest(read_manifest(folder)) if (folder / MANIFEST).is_file() else None


def matching(known: Mapping[str, Identity | None], config: RunConfig, own: Identity) -> str:
    """The fingerprint of the run among earlier ones of its system, variant and seed; a new one if none is the same.

    Args:
        known: identities by fingerprint, oldest first; None where nothing is known but the fingerprint.
        config: of the run.
        own: its identity.
    """
    at_default = keys_at_default(config)
    for fingerprint, identity in reversed(list(known.items())):
        if identity is not None and own.continues(identity, at_default):
            return fingerprint
    before = earlier_fingerprint(config)
    return before if before in known and known[before] is None else own.fingerprint


def _settings(tree: Mapping[str, Any]) -> dict[str, str]:
    return {key: value for key, value in flat(tree).items() if key != _OUTPUT}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
