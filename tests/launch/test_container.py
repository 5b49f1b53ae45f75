"""The recipes for images: both take the same base, index and files, all of which are there."""

from __future__ import annotations

import re

from tests.helpers.environment import ROOT

DOCKER = (ROOT / "launch/container/Dockerfile").read_text(encoding="utf-8")
APPTAINER = (ROOT / "launch/container/smoe_ds.def").read_text(encoding="utf-8")


def test_the_same_base_and_index() -> None:
    (base,) = re.findall(r"^FROM (\S+)$", DOCKER, flags=re.MULTILINE)
    assert f"\nFrom: {base}\n" in APPTAINER
    (index,) = re.findall(r"^ARG (TORCH_INDEX=\S+)$", DOCKER, flags=re.MULTILINE)
    assert f"    {index}\n" in APPTAINER


def test_the_same_files_which_are_there() -> None:
    copied: dict[str, str] = {}
    for words in (line.split()[1:] for line in DOCKER.splitlines() if line.startswith("COPY ")):
        *sources, target = words
        copied |= {source: f"{target}{source}" if target.endswith("/") else target for source in sources}
    files = APPTAINER.partition("%files\n")[2].partition("\n\n")[0]
    assert dict(line.split() for line in files.splitlines()) == copied
    assert copied and all((ROOT / source).exists() for source in copied)
    assert all(target == f"/opt/smoe_ds/{source}" for source, target in copied.items())


def test_both_run_the_same_installation() -> None:
    command = "bash /opt/smoe_ds/launch/container/install.sh /opt/smoe_ds"
    assert command in DOCKER and command in APPTAINER
