"""Debian's package tool without root: lists and downloads in a folder of its own, verified as apt verifies them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from smoe_ds.errors import DataError

APT_DEADLINE = 900  # seconds for one apt command; its own network timeouts are far shorter


class FetchError(DataError):
    """The packages cannot be had: no apt, no network, no source that offers them."""


class Apt:
    """apt with the system's sources and keys, but lists and caches in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        for name in ("lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # What is installed must not matter: its version may be one that no source has.
        (self.folder / "status").touch()
        settings = {
            "Dir::State::lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "Acquire::Languages": "none",
            "Acquire::Retries": 2,
            "Acquire::http::Timeout": 30,
            "Acquire::https::Timeout": 30,
            "APT::Sandbox::User": "root",
        }
        self._options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]

    def update(self) -> bool:
        """Fetches the package lists.

        Returns:
            False if some source did not answer: what the others offer can be downloaded all the same.
        """
        try:
            self._run("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update", cwd=self.folder)
        except FetchError as error:
            print(f"{error}; continuing with the lists that arrived", flush=True)
            return False
        return True

    def offered(self, names: Sequence[str]) -> list[str]:
        """Those of the packages that the lists offer, in order."""
        policy = self._run("apt-cache", "policy", *names, cwd=self.folder, capture=True)
        offered = re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (?!\(none\))\S+", policy, re.MULTILINE)
        found = {name.split(":")[0] for name in offered}
        return [name for name in names if name in found]

    def download(self, names: Sequence[str], into: Path) -> None:
        """Downloads packages into a folder, verified against the signed lists."""
        self._run("apt-get", "-q", "download", *names, cwd=into)

    def _run(self, program: str, *arguments: str, cwd: Path, capture: bool = False) -> str:
        command = [program, *self._options, *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=cwd,
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if capture else None,
                text=True,
                check=True,
                timeout=APT_DEADLINE,
            )
        except FileNotFoundError as error:
            raise FetchError(
                f"{program} not found; this needs Debian or Ubuntu; elsewhere: data_prep.quickstart.cldr"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise FetchError(f"{program} {arguments[0]}: no end after {APT_DEADLINE} s; check the network") from error
        except subprocess.CalledProcessError as error:
            shown = " ".join((program, *arguments))
            raise FetchError(
                f"`{shown}` failed with exit status {error.returncode}, its reason is above; "
                "check the network and /etc/apt/sources.list"
            ) from error
        return done.stdout if capture else ""
