"""Builds the real things in miniature: compiled gettext catalogs, Debian packages, an apt repository."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path


def compiled_catalog(messages: Mapping[str, str], field: str = "") -> bytes:
    """A gettext ``.mo`` file in UTF-8, as ``msgfmt`` writes it; ``field`` goes into its header."""
    header = {"": f"Content-Type: text/plain; charset=UTF-8\n{field}\n"}
    entries = sorted((key.encode(), value.encode()) for key, value in {**header, **messages}.items())
    tables_start, table_size = 28, 8 * len(entries)
    strings, tables = b"", [b"", b""]
    for side in (0, 1):
        for entry in entries:
            tables[side] += struct.pack("<2I", len(entry[side]), tables_start + 2 * table_size + len(strings))
            strings += entry[side] + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(entries), tables_start, tables_start + table_size, 0, 0)
    return head + tables[0] + tables[1] + strings


def build_package(folder: Path, name: str, files: Mapping[str, bytes], version: str = "1:1.0-1") -> Path:
    """A Debian package that holds the given files (path -> content), built by ``dpkg-deb``."""
    root = folder / f"{name}-root"
    (root / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <no@example.org>\n"
    (root / "DEBIAN/control").write_text(control + "Description: test package\n")
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    package = folder / f"{name}_{version.replace(':', '%3a')}_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, package], check=True, capture_output=True)
    return package


def write_repository(folder: Path, packages: list[Path]) -> Path:
    """Makes a folder of packages a repository; returns an apt configuration that knows no other."""
    listing = ""
    for package in packages:
        fields = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        listing += f"{fields}Filename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n\n"
    (folder / "Packages").write_text(listing)
    (folder / "sources.list").write_text(f"deb [trusted=yes] copy:{folder} ./\n")
    configuration = folder / "apt.conf"
    configuration.write_text(f'Dir::Etc::sourcelist "{folder}/sources.list";\nDir::Etc::sourceparts "-";\n')
    return configuration
