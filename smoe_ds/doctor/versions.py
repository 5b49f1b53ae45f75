"""Whether every host has the same packages and the same source code, and those that were tested together."""

from __future__ import annotations

import hashlib
import importlib
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import smoe_ds
from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED, Finding
from smoe_ds.text_line import first_line

OLDEST = {"torch": (2, 10)}
"""Below it `weights_only` loading has known holes."""
_NEEDED_AT_ONCE = ("torch", "deepspeed", "sentencepiece", "safetensors", "yaml", "numpy", "tensorboard")
_SOURCE, _PYTHON = "source code of smoe_ds", "Python"


def check_versions(context: Context) -> Iterator[Finding]:
    """Compares this rank's versions with the required ones, and all ranks' with each other."""
    required = required_versions()
    found = found_versions(required)
    yield from _import_problems()
    if required:
        yield compare_required(required, found)
    else:
        yield Finding(SKIPPED, "packages: skipped because smoe_ds has neither metadata nor requirements.txt here")
    everybodys = context.meeting.collect("versions", found, context.seconds / 2)
    if everybodys is not None and context.env.world_size > 1:
        yield compare_ranks(everybodys, context.meeting.hosts)


def required_versions() -> dict[str, str]:
    """The packages that apply here with the version each was tested at ("" where any will do)."""
    from packaging.requirements import Requirement

    wanted = {}
    for line in _requirement_lines():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            exact = [part.version for part in requirement.specifier if part.operator == "=="]
            wanted[requirement.name] = exact[0] if exact else ""
    return wanted


def _requirement_lines() -> list[str]:
    """Of the installed package, else of the file beside its sources."""
    try:
        installed = metadata.requires("smoe_ds")
    except metadata.PackageNotFoundError:  # it runs from its sources
        installed = None
    if installed:
        return installed
    file = Path(smoe_ds.__file__).parents[1] / "requirements.txt"
    if not file.is_file():
        return []
    lines = [line.split(" #")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def found_versions(names: Mapping[str, str]) -> dict[str, str]:
    """Versions of packages, of Python and of this program's source; "missing" for those that are not installed."""
    found = {_PYTHON: platform.python_version(), _SOURCE: source_digest()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def source_digest() -> str:
    """A short name for the exact content of the package's Python files."""
    root, digest = Path(smoe_ds.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:10]


def compare_required(required: Mapping[str, str], found: Mapping[str, str]) -> Finding:
    """One rank's packages against those the project was tested with; another version is no obstacle by itself."""
    missing = [name for name in required if found[name] == "missing"]
    old = [
        f"{name} {found[name]} (needs {'.'.join(map(str, oldest))} or later)"
        for name, oldest in OLDEST.items()
        if name in required and name not in missing and _numbers(found[name]) < oldest
    ]
    if missing or old:
        absent = [f"{', '.join(missing)} missing"] if missing else []
        return Finding(FAILED, "; ".join([*absent, *old]), "pip install -r requirements.txt in this environment")
    other = [
        f"{name} {found[name]} (tested with {wanted})"
        for name, wanted in required.items()
        if wanted and _without_build(found[name]) != _without_build(wanted)
    ]
    known = f"Python {found[_PYTHON]}, torch {found.get('torch', '?')}, deepspeed {found.get('deepspeed', '?')}"
    if other:
        return Finding(
            NOTE,
            f"{known}; differ from the tested ones: {', '.join(other)}",
            "pip install -r requirements.txt installs the tested ones",
        )
    return Finding(OK, f"{known} and {len(required) - 2} more as in requirements.txt")


def compare_ranks(everybodys: Sequence[Mapping[str, str] | None], hosts: Sequence[str]) -> Finding:
    """All ranks' versions against each other; those of most ranks count as right."""
    differing = []
    names = list(dict.fromkeys(name for found in everybodys if found is not None for name in found))
    for name in names:
        versions = {rank: found.get(name, "missing") for rank, found in enumerate(everybodys) if found is not None}
        usual = Counter(versions.values()).most_common(1)[0][0]
        for version in sorted(set(versions.values()) - {usual}):
            theirs = [rank for rank, its in versions.items() if its == version]
            differing.append(f"{_places(theirs, hosts)}: {name} {version}, others {usual}")
    if differing:
        return Finding(
            FAILED,
            "; ".join(differing),
            "start every rank in the same environment: one that all hosts see, or the same container image",
            scope="run",
        )
    answered = sum(found is not None for found in everybodys)
    return Finding(OK, f"the same packages and source code on {answered} ranks", scope="run")


def _places(ranks: Sequence[int], hosts: Sequence[str]) -> str:
    """Hosts that are meant as a whole, else ranks."""
    theirs = sorted({hosts[rank] for rank in ranks})
    if len(set(hosts)) > 1 and [rank for rank, host in enumerate(hosts) if host in theirs] == list(ranks):
        return f"host{'s' if len(theirs) > 1 else ''} {', '.join(theirs)}"
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _import_problems() -> Iterator[Finding]:
    for name in _NEEDED_AT_ONCE:
        try:
            importlib.import_module(name)
        except Exception as error:
            yield Finding(
                FAILED,
                f"import {name}: {type(error).__name__}: {first_line(str(error))}",
                "pip install -r requirements.txt in this environment",
            )


def _without_build(version: str) -> str:
    """``2.13.0+cu126`` and ``2.13.0`` are the same release."""
    return version.split("+")[0]


def _numbers(version: str) -> tuple[int, ...]:
    parts = _without_build(version).split(".")[:2]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)
