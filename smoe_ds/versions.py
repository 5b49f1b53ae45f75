"""Versions of installed packages, for whoever wants to know what wrote a file."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """The version of each package; of one that runs from its sources, that it does."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
