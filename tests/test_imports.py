"""Imports run downwards, and cheap commands import nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "console": 0,
    "errors": 0,
    "file_lock": 0,
    "config": 1,
    "data": 2,
    "moe": 2,
    "model": 3,
    "parallel": 4,
    "engine": 4,
    "decode": 4,
    "train": 5,
    "analysis": 5,
    "doctor": 6,
    "cli": 7,
}
"""Package below ``smoe_ds`` and its floor: a package imports from its own floor or from lower ones."""

OPEN_TO_DATA_PREP = {"", "console", "errors", "file_lock", "config", "data"}
DISTRIBUTED_ALLOWED = {"smoe_ds/moe/expert_parallel.py", "smoe_ds/moe/exchange.py"}
DEEPSPEED_ALLOWED = {"smoe_ds/moe/deepspeed_layer.py"}


@dataclass(frozen=True)
class Import:
    """One imported module, where it is written, and whether importing the file runs it."""

    path: str
    line: int
    module: str
    at_import: bool

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def imports_of(source: str, path: str) -> list[Import]:
    """All imports of a file, those inside functions too; ``from a import b`` counts as ``a.b``."""
    return list(_imports(ast.parse(source), path, at_import=True))


def _imports(node: ast.AST, path: str, at_import: bool) -> Iterator[Import]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield Import(path, node.lineno, alias.name, at_import)
        case ast.ImportFrom(module=module, names=names, level=level):
            package = list(Path(path).with_suffix("").parts[:-level]) if level else []
            base = ".".join([*package, *([module] if module else [])])
            for alias in names:
                yield Import(path, node.lineno, f"{base}.{alias.name}", at_import)
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            for child in ast.iter_child_nodes(node):
                yield from _imports(child, path, False)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            for child in ast.iter_child_nodes(node):
                yield from _imports(child, path, False)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _imports(child, path, at_import)


def layer(module: str) -> str | None:
    """``smoe_ds.moe.gate`` is ``moe``; ``smoe_ds`` itself and the command line's entry are "", others None."""
    parts = module.split(".")
    if parts[0] != "smoe_ds":
        return None
    return parts[1] if len(parts) > 1 and parts[1] not in ("__version__", "__main__") else ""


def heavy(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def broken_rules(found: list[Import]) -> list[str]:
    """What the imports of one file break."""
    broken = []
    for entry in found:
        own, other = layer(module_name(entry.path)), layer(entry.module)
        if entry.path.startswith("data_prep/") and other is not None and other not in OPEN_TO_DATA_PREP:
            broken.append(f"{entry}: data_prep builds on smoe_ds.data and smoe_ds.config alone")
        if own and other and FLOORS[other] > FLOORS[own]:
            broken.append(f"{entry}: {other} lies above {own}")
        if own in ("moe", "model") and heavy(entry.module, "deepspeed") and entry.path not in DEEPSPEED_ALLOWED:
            broken.append(f"{entry}: {own} knows nothing of DeepSpeed")
        if (
            own in ("moe", "model")
            and heavy(entry.module, "torch.distributed")
            and entry.path not in DISTRIBUTED_ALLOWED
        ):
            broken.append(f"{entry}: {own} is single-device code")
        light = own in ("errors", "config", "data", "cli", "")
        if light and entry.at_import and (heavy(entry.module, "torch") or heavy(entry.module, "deepspeed")):
            broken.append(f"{entry}: import it inside the function that uses it")
    return broken


def module_name(path: str) -> str:
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> list[str]:
    found = [path for package in ("smoe_ds", "data_prep") for path in (ROOT / package).rglob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def all_imports() -> list[Import]:
    return [entry for path in files() for entry in imports_of((ROOT / path).read_text(encoding="utf-8"), path)]


def test_every_package_has_a_floor() -> None:
    packages = {layer(module_name(path)) for path in files()} - {None, ""}
    assert packages <= set(FLOORS)
    assert {"config", "data", "moe", "model"} <= packages


def test_imports_run_downwards() -> None:
    found = all_imports()
    assert len(found) > 100
    assert broken_rules(found) == []


def test_packages_do_not_import_in_circles() -> None:
    graph: dict[str, set[str]] = {}
    for entry in all_imports():
        own, other = layer(module_name(entry.path)), layer(entry.module)
        if own and other and own != other:
            graph.setdefault(own, set()).add(other)
    TopologicalSorter(graph).prepare()  # raises CycleError naming the circle


@pytest.mark.parametrize(
    ("path", "source", "part"),
    [
        ("smoe_ds/config/a.py", "from smoe_ds.data.shards import x", "data lies above config"),
        ("smoe_ds/moe/a.py", "def f():\n    from smoe_ds.model import transformer", "model lies above moe"),
        ("smoe_ds/moe/a.py", "from smoe_ds import engine", "engine lies above moe"),
        ("smoe_ds/data/a.py", "from ..train import loop", "train lies above data"),
        ("smoe_ds/model/a.py", "def f():\n    import torch.distributed as dist", "single-device"),
        ("smoe_ds/moe/a.py", "from torch import distributed", "single-device"),
        ("smoe_ds/model/a.py", "from deepspeed.moe.layer import MoE", "nothing of DeepSpeed"),
        ("smoe_ds/data/a.py", "try:\n    import torch\nexcept ImportError:\n    pass", "inside the function"),
        ("smoe_ds/cli/train.py", "import deepspeed", "inside the function"),
        ("smoe_ds/__init__.py", "import torch", "inside the function"),
        ("data_prep/a.py", "from smoe_ds.model import x", "data_prep builds on"),
    ],
)
def test_the_rules_catch(path: str, source: str, part: str) -> None:
    (message,) = broken_rules(imports_of(source, path))
    assert part in message


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("smoe_ds/data/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("smoe_ds/data/a.py", "def f():\n    import torch"),
        ("smoe_ds/moe/expert_parallel.py", "import torch.distributed as dist"),
        ("smoe_ds/moe/a.py", "import torch\nfrom smoe_ds.config.moe import MoeConfig"),
        ("smoe_ds/train/a.py", "from smoe_ds.analysis import tables\nimport torch"),
        ("data_prep/a.py", "from smoe_ds.data.shards import x"),
    ],
)
def test_the_rules_let_pass(path: str, source: str) -> None:
    assert broken_rules(imports_of(source, path)) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import smoe_ds",
        "import smoe_ds.cli.main",
        "from smoe_ds.cli.main import main; assert main(['--help']) == 0",
        "from smoe_ds.cli.main import main; assert main(['validate', 'ds_configs/m4.json', '--world-size', '4']) == 0",
    ],
)
def test_nothing_heavy_is_imported_for(statement: str) -> None:
    program = f"{statement}\nimport sys\nprint([m for m in ('torch', 'deepspeed', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_importing_the_package_alone_loads_none_of_its_parts() -> None:
    program = "import sys, smoe_ds; print([m for m in sys.modules if m.startswith('smoe_ds.')])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
