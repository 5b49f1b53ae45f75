"""Where a job finds Python with the project in it: this interpreter, modules, an environment, a container."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.quoting import check_printable
from smoe_ds.errors import LaunchError


@dataclass(frozen=True)
class Software:
    """How a job's script gets at ``python``.

    Attributes:
        python: interpreter that is called by its path; None where an environment or a container brings its own.
        modules: environment modules that are loaded first, e.g. ``cuda/12.8``.
        venv: folder of a virtual environment that is activated.
        conda: name or folder of a conda environment that is activated.
        container: an Apptainer image in which everything runs.
        binds: folders that the container sees besides those it needs.
    """

    python: str | None
    modules: tuple[str, ...] = ()
    venv: Path | None = None
    conda: str | None = None
    container: Path | None = None
    binds: tuple[Path, ...] = ()

    def check(self) -> None:
        """Makes sure that what is named is there.

        Raises:
            LaunchError: it is not, or two things are named that exclude each other.
        """
        named = {"--python": self.python, "--venv": self.venv, "--conda": self.conda, "--container": self.container}
        given = [name for name, value in named.items() if value is not None]
        if len(given) > 1:
            raise LaunchError(f"{' and '.join(given)}: each has its own Python; choose one")
        if self.python is not None and not Path(self.python).is_file():
            raise LaunchError(f"--python {self.python}: no such file; name the interpreter that has smoe_ds")
        if self.venv is not None and not (self.venv / "bin/activate").is_file():
            raise LaunchError(
                f"--venv {self.venv}: is not a virtual environment: {self.venv / 'bin/activate'} is missing"
            )
        if self.container is not None and not self.container.exists():
            raise LaunchError(f"--container {self.container}: no such image; launch/README.md says how to build it")
        if self.binds and self.container is None:
            raise LaunchError("--bind: is for a container; add --container IMAGE")
        for word in (*self.modules, self.conda or "", *map(str, [self.venv, self.container, *self.binds])):
            check_printable("script", word)

    @property
    def setup(self) -> str:
        """Lines of the script that prepare its shell."""
        lines = [f"module load {shlex.quote(module)}" for module in self.modules]
        if self.venv is not None:
            lines += ["# shellcheck disable=SC1091", f". {shlex.quote(str(self.venv.absolute() / 'bin/activate'))}"]
        if self.conda is not None:
            lines += ['eval "$(conda shell.bash hook)"', f"conda activate {shlex.quote(self.conda)}"]
        return "\n".join(lines)

    def checkout(self, root: Path) -> str:
        """A line of the script that lets Python find what is not installed, ``data_prep``; a container has its own."""
        if self.container is not None:
            return ""
        return f'export PYTHONPATH={shlex.quote(str(root))}"${{PYTHONPATH:+:$PYTHONPATH}}" # data_prep runs from there'

    def command(self, gpus: bool, folders: Sequence[Path]) -> list[str]:
        """The words before ``-m MODULE``.

        Args:
            gpus: whether the container gets at the GPUs.
            folders: what a container has to see.

        Raises:
            LaunchError: a folder's name cannot be given to Apptainer.
        """
        if self.container is None:
            return [self.python or "python"]
        words = ["apptainer", "exec", *(["--nv"] if gpus else [])]
        for folder in _without_subfolders([*(path.absolute() for path in self.binds), *folders]):
            if set(str(folder)) & set(":,"):
                raise LaunchError(f"{folder}: Apptainer binds no folder with a colon or comma in its name; rename it")
            words += ["--bind", str(folder)]
        return [*words, "--pwd", str(Path.cwd()), str(self.container.absolute()), "python"]


def _without_subfolders(folders: Sequence[Path]) -> list[Path]:
    """The folders, each once, without those inside another."""
    unique = list(dict.fromkeys(folders))
    return [folder for folder in unique if not any(other in folder.parents for other in unique)]
