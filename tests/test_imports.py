"""Imports run downwards, and cheap commands import nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers.environment import ROOT

FLOORS = {
    "smoe_ds": (
        ("console", "errors", "file_lock", "launch_variables", "regular_file", "run_names", "text_line", "versions"),
        ("config", "moe", "parallel"),
        ("data", "model", "watch"),
        ("checkpoints",),
        ("run",),
        ("engine",),
        ("weights",),
        ("decode",),
        ("convert", "evaluate", "analysis", "planning", "huggingface"),
        ("train", "scaling", "study"),
        ("doctor", "report", "serve"),
        ("cli",),
    ),
    "data_prep": (
        ("progress", "own_folders"),
        ("languages", "workers"),
        ("text",),
        ("readers",),
        ("spec",),
        ("cleaning", "quickstart"),
        ("held_out",),
        ("vocabulary",),
        ("stages", "check_files"),
        ("report", "output"),
        ("prepare",),
        ("cli",),
    ),
    "launch": (
        ("quoting", "time_limit"),
        ("resources", "software", "target"),
        ("memory",),
        ("jobs",),
        ("script",),
        ("cli",),
    ),
}
"""The parts of each top-level package, lowest floor first: a part imports from lower floors, and from its own floor
as long as no circle comes about."""

OPEN_TO_DATA_PREP = {
    "", "console", "errors", "file_lock", "launch_variables", "regular_file", "text_line", "config", "data",
}  # fmt: skip
DISTRIBUTED_ALLOWED = {"smoe_ds/moe/expert_parallel.py", "smoe_ds/moe/exchange.py"}
DEEPSPEED_GROUPS = {"smoe_ds/engine/expert_groups.py", "smoe_ds/moe/deepspeed_layer.py"}
"""The files that use DeepSpeed's MoE layer or its groups of ranks, which are internals of its."""
DEEPSPEED = DEEPSPEED_GROUPS | {
    "smoe_ds/doctor/adam_op.py",
    "smoe_ds/engine/build.py",
    "smoe_ds/engine/native_adam.py",
    "smoe_ds/parallel/process_group.py",
}
"""All files that import DeepSpeed."""
FLOOR_OF = {
    (package, part): floor for package, floors in FLOORS.items() for floor, parts in enumerate(floors) for part in parts
}


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


def part_of(module: str) -> tuple[str, str] | None:
    """``smoe_ds.moe.gate`` is ("smoe_ds", "moe"); a package and its ``__main__`` are (package, ""), others None."""
    package, *rest = module.split(".")
    if package not in FLOORS:
        return None
    return package, rest[0] if rest and rest[0] not in ("__version__", "__main__") else ""


def heavy(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def uses_groups(entry: Import) -> bool:
    return heavy(entry.module, "deepspeed.moe") or heavy(entry.module, "deepspeed.utils.groups")


def broken_rules(found: list[Import]) -> list[str]:
    """What the imports of one file break."""
    broken = []
    for entry in found:
        own, other = part_of(module_name(entry.path)), part_of(entry.module)
        assert own is not None, entry.path
        package, part = own
        if other is not None:
            broken += _upwards(entry, own, other)
        neutral = package == "smoe_ds" and part in ("moe", "model")
        if heavy(entry.module, "deepspeed") and entry.path not in DEEPSPEED:
            broken.append(f"{entry}: {part} knows nothing of DeepSpeed; see DEEPSPEED")
        elif uses_groups(entry) and entry.path not in DEEPSPEED_GROUPS:
            broken.append(f"{entry}: its MoE layer and groups of ranks are for DEEPSPEED_GROUPS alone")
        if neutral and heavy(entry.module, "torch.distributed") and entry.path not in DISTRIBUTED_ALLOWED:
            broken.append(f"{entry}: {part} is single-device code")
        light = package != "smoe_ds" or part in ("errors", "config", "data", "cli", "")
        if light and entry.at_import and heavy(entry.module, "torch"):
            broken.append(f"{entry}: import it inside the function that uses it")
    return broken


def _upwards(entry: Import, own: tuple[str, str], other: tuple[str, str]) -> Iterator[str]:
    if own[0] == other[0]:
        if own[1] and other[1] and FLOOR_OF[other] > FLOOR_OF[own]:
            yield f"{entry}: {other[1]} lies above {own[1]}"
    elif own[0] == "smoe_ds" or other[0] == "launch":
        yield f"{entry}: {other[0]} lies above {own[0]}"
    elif own[0] == "data_prep" and other[1] not in OPEN_TO_DATA_PREP:
        yield f"{entry}: data_prep builds on smoe_ds.data and smoe_ds.config alone"


def module_name(path: str) -> str:
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> list[str]:
    found = [path for package in FLOORS for path in (ROOT / package).rglob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def all_imports() -> list[Import]:
    return [entry for path in files() for entry in imports_of((ROOT / path).read_text(encoding="utf-8"), path)]


def circle_in(found: list[Import], modules: set[str]) -> list[str] | None:
    """Modules that import each other in a circle, imports inside functions and for types included; None without one."""
    graph: dict[str, set[str]] = {}
    for entry in found:
        own = module_name(entry.path)
        other = entry.module if entry.module in modules else entry.module.rpartition(".")[0]
        if other in modules and other != own:
            graph.setdefault(own, set()).add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return None


def test_every_part_has_a_floor() -> None:
    parts = {part for path in files() if (part := part_of(module_name(path))) and part[1]}
    assert parts == set(FLOOR_OF)


def test_imports_run_downwards() -> None:
    found = all_imports()
    assert len(found) > 1000
    assert broken_rules(found) == []


def test_the_files_that_know_deepspeed_are_these() -> None:
    found = [entry for entry in all_imports() if heavy(entry.module, "deepspeed")]
    assert {entry.path for entry in found} == DEEPSPEED
    assert {entry.path for entry in found if uses_groups(entry)} == DEEPSPEED_GROUPS


def test_no_parts_import_each_other() -> None:
    """Of two parts on one floor only one may import the other."""
    pairs = {
        (own, other)
        for entry in all_imports()
        if (own := part_of(module_name(entry.path))) and (other := part_of(entry.module)) and own != other
        if own[0] == other[0] and own[1] and other[1]
    }
    assert [pair for pair in sorted(pairs) if pair[::-1] in pairs] == []


def test_no_file_imports_itself_through_others() -> None:
    assert circle_in(all_imports(), {module_name(path) for path in files()}) is None


def test_a_circle_is_found() -> None:
    sources = {
        "launch/a.py": "from launch.b import x",
        "launch/b.py": "def f():\n    from launch import c",
        "launch/c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import launch.a",
    }
    found = [entry for path, source in sources.items() for entry in imports_of(source, path)]
    modules = {"launch.a", "launch.b", "launch.c"}
    assert sorted(set(circle_in(found, modules) or [])) == sorted(modules)
    assert circle_in([entry for entry in found if entry.path != "launch/c.py"], modules) is None


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
        ("smoe_ds/cli/train.py", "import deepspeed", "nothing of DeepSpeed"),
        ("smoe_ds/train/a.py", "def f():\n    from deepspeed.utils import groups", "nothing of DeepSpeed"),
        ("smoe_ds/engine/build.py", "def f():\n    from deepspeed.utils import groups", "DEEPSPEED_GROUPS"),
        ("smoe_ds/engine/build.py", "from deepspeed.moe.layer import MoE", "DEEPSPEED_GROUPS"),
        ("data_prep/cli.py", "import torch", "inside the function"),
        ("smoe_ds/__init__.py", "import torch", "inside the function"),
        ("data_prep/cli.py", "from smoe_ds.model import x", "data_prep builds on"),
        ("data_prep/readers/a.py", "from data_prep.spec import sections", "spec lies above readers"),
        ("launch/resources.py", "from launch.jobs import x", "jobs lies above resources"),
        ("smoe_ds/cli/a.py", "def f():\n    import launch.jobs", "launch lies above smoe_ds"),
        ("data_prep/cli.py", "import launch.jobs", "launch lies above data_prep"),
        ("launch/cli.py", "import torch", "inside the function"),
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
        ("smoe_ds/engine/build.py", "import deepspeed\nfrom deepspeed.accelerator import get_accelerator"),
        ("smoe_ds/engine/expert_groups.py", "from deepspeed.utils import groups"),
        ("smoe_ds/moe/expert_parallel.py", "import torch.distributed as dist"),
        ("smoe_ds/moe/a.py", "import torch\nfrom smoe_ds.config.moe import MoeConfig"),
        ("smoe_ds/train/a.py", "from smoe_ds.planning import plan\nimport torch"),
        ("launch/cli.py", "from data_prep.spec import sections\nfrom smoe_ds.cli import main"),
        ("data_prep/cli.py", "from smoe_ds.data.shards import x"),
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
