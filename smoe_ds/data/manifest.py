"""The manifest of a prepared corpus: what every file holds, its size and SHA-256; it vouches for itself too.

It is one JSON object whose first entry, ``sha256``, is the SHA-256 of the file's own bytes with the 64 digits of this
entry replaced by zeros.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smoe_ds.config.problems import shortened
from smoe_ds.data.manifest_schema import problem_of
from smoe_ds.errors import DataError
from smoe_ds.regular_file import read_regular

FORMAT = "smoe-corpus"
VERSION = 2
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.model"
_LARGEST = 1 << 30  # bytes
_AGAIN = "restore the file or prepare the corpus again with --overwrite"
_NO_DIGEST = b"0" * 64
_DIGEST = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})"')


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Puts the manifest in its place, whole, once it is on the disk; an earlier one is replaced.

    Args:
        folder: folder of the corpus.
        manifest: the entries but ``format``, ``version`` and ``sha256``, which are added.
    """
    entries = {"sha256": _NO_DIGEST.decode(), "format": FORMAT, "version": VERSION}
    entries |= {name: value for name, value in manifest.items() if name not in entries}
    data = json.dumps(entries, ensure_ascii=False, indent=1).encode("utf-8") + b"\n"
    data = data.replace(_NO_DIGEST, hashlib.sha256(data).hexdigest().encode(), 1)
    temporary = folder / f"{MANIFEST}.tmp-{os.getpid()}"
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared corpus.

    Raises:
        DataError: there is none, it cannot be read, a bit of it changed, another program or version wrote it, or it
            holds what no corpus can have, such as the name of a file outside its folder.
    """
    path = folder / MANIFEST
    try:
        data = read_regular(path, _LARGEST)
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: missing; {folder} is not a corpus written by `python -m data_prep SPEC.yaml`"
        ) from error
    except NotADirectoryError as error:
        raise DataError(f"{folder}: is a file; name the folder that `python -m data_prep SPEC.yaml` wrote") from error
    except OSError as error:
        remedy = "fix its permissions or its disk; nothing is known to be wrong with the corpus"
        raise DataError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    digest = _DIGEST.match(data)
    if digest is None:
        raise _without_digest(path, data)
    found = hashlib.sha256(data.replace(digest[1], _NO_DIGEST, 1)).hexdigest()
    if found != digest[1].decode():
        raise DataError(
            f"{path}: damaged: its {len(data)} bytes have SHA-256 {found}, but its own entry says "
            f"{digest[1].decode()}; restore the file or prepare the corpus again with --overwrite"
        )
    manifest = _parsed(data)
    if not isinstance(manifest, dict) or "format" not in manifest or "version" not in manifest:
        raise DataError(f"{path}: is not a manifest: it has no format and version; {_AGAIN}")
    if (manifest["format"], manifest["version"]) != (FORMAT, VERSION):
        raise _other_version(path, manifest)
    if (problem := problem_of(manifest)) is not None:
        raise DataError(f"{path}: {problem}; data_prep did not write this; {_AGAIN}")
    return manifest


def _parsed(data: bytes) -> Any:
    """The JSON value; None if it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _without_digest(path: Path, data: bytes) -> DataError:
    """The error for a file that does not begin as a manifest: an older version's, if it can be read as one."""
    manifest = _parsed(data)
    if isinstance(manifest, dict) and manifest.get("format") == FORMAT and manifest.get("version") != VERSION:
        return _other_version(path, manifest)
    return DataError(
        f"{path}: damaged or no manifest: its {len(data)} bytes do not begin with its own SHA-256; restore the file or "
        "prepare the corpus again with --overwrite"
    )


def _other_version(path: Path, manifest: dict[str, Any]) -> DataError:
    format_, version = (shortened(repr(manifest[name]), 40) for name in ("format", "version"))
    return DataError(
        f"{path}: format {format_} version {version}, expected {FORMAT!r} version {VERSION}; prepare the corpus again "
        "with this version's data_prep and --overwrite"
    )


def shard_files(manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every file the manifest vouches for, as (path relative to the corpus, entry with bytes and sha256)."""
    yield manifest["tokenizer"]["file"], manifest["tokenizer"]
    if "report_file" in manifest:
        yield manifest["report_file"]["file"], manifest["report_file"]
    for split, pairs in manifest["splits"].items():
        for pair, entry in pairs.items():
            for shard in entry["shards"]:
                for side in shard["sides"].values():
                    for part in (side["bin"], side["idx"], side["crc"]):
                        yield f"{split}/{pair}/{part['file']}", part
            for text in entry.get("text", {}).values():
                yield f"text/{text['file']}", text


def files_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 over the names and hashes of all files: two corpora with the same one hold the same sentences."""
    files = sorted((name, entry["sha256"]) for name, entry in shard_files(manifest))
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()
