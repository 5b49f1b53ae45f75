"""No pickle is written or read: not by the source, and a planted one is refused without being run."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.checkpoints.format import read_manifest, write_manifest
from smoe_ds.checkpoints.part_file import FileEntry
from smoe_ds.cli.main import main
from smoe_ds.errors import CheckpointError
from tests.helpers.engines import Setup, digest, full_state, make_engine, train
from tests.helpers.environment import ROOT
from tests.helpers.ranks import run_ranks

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    "torch.load",
    "torch.save",
    "torch.jit.load",
    "numpy.load",
    "np.load",
    "pd.read_pickle",
    "yaml.unsafe_load",
    "yaml.full_load",
    "engine.save_checkpoint",
    "engine.load_checkpoint",
    "dist.all_gather_object",
    "dist.gather_object",
    "dist.broadcast_object_list",
    "dist.scatter_object_list",
    "dist.send_object_list",
    "dist.recv_object_list",
}
FORBIDDEN_LOADERS = {"yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader"}
FORBIDDEN_ARGUMENTS = {"weights_only", "allow_pickle", "pickle_module"}
TRUSTED = {"smoe_ds/weights/deepspeed_files.py", "smoe_ds/huggingface/tensors.py"}
"""DeepSpeed's own checkpoints and old folders of transformers are pickles; what imports them reads such, if told to
trust."""


def pickles_in(source: str) -> list[str]:
    """What a source file does that writes or reads pickles, directly or inside a library."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [a.name for a in names if a.name.split(".")[0] in FORBIDDEN_MODULES]
            case ast.ImportFrom(module=str(module), names=names):
                wanted = [f"{module}.{alias.name}" for alias in names]
                found += [n for n in wanted if n.split(".")[0] in FORBIDDEN_MODULES or n in FORBIDDEN_CALLS]
            case ast.Attribute() if (name := ast.unparse(node)) in FORBIDDEN_LOADERS:
                found.append(name)
            case ast.Call(func=function, keywords=keywords):
                name = ast.unparse(function)
                found += [name] if name in FORBIDDEN_CALLS or name.endswith("_object_list") else []
                found += [str(k.arg) for k in keywords if k.arg in FORBIDDEN_ARGUMENTS]
    return found


def test_the_source_has_none() -> None:
    sources = [path for package in ("smoe_ds", "data_prep") for path in (ROOT / package).rglob("*.py")]
    assert len(sources) > 100
    found = {
        name: bad
        for path in sources
        if (name := str(path.relative_to(ROOT))) not in TRUSTED and (bad := pickles_in(path.read_text("utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from pickle import loads",
        "torch.load(path)",
        "from torch import load",
        "read(path, weights_only=True)",
        "np.load(path)",
        "yaml.load(text, yaml.Loader)",
        "dist.all_gather_object(out, 1)",
        "engine.save_checkpoint(path)",
    ],
)
def test_the_scan_finds(source: str) -> None:
    assert pickles_in(source)


class Bomb:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def bare(mark: Path) -> bytes:
    return pickle.dumps(Bomb(mark))


def zipped(mark: Path) -> bytes:
    """As ``torch.save`` wraps a pickle."""
    file = mark.with_suffix(".zip")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", bare(mark))
        archive.writestr("archive/version", "3\n")
    content = file.read_bytes()
    file.unlink()
    return content


KINDS = {"bare": bare, "zipped": zipped}
SLOTS = ("model-00000.safetensors", "optimizer-00000.safetensors", "state.json", "manifest.json", "latest", "best")
SETUP = Setup(1)


def test_the_bomb_goes_off(tmp_path: Path) -> None:
    """What is planted below would be seen if anything loaded it."""
    pickle.loads(bare(tmp_path / "mark"))
    assert (tmp_path / "mark").is_dir()


def plant(folder: Path, slot: str, content: bytes, *, honest: bool) -> None:
    """Puts bytes into a file of a checkpoint.

    Args:
        folder: the checkpoint.
        slot: a file of it, or of the folder above.
        content: what to plant.
        honest: whether the manifest is made to fit, as by somebody who knows the format.
    """
    if slot in ("latest", "best"):
        (folder.parent / slot).write_bytes(content)
        return
    (folder / slot).write_bytes(content)
    if honest and slot != "manifest.json":
        manifest = read_manifest(folder)
        fitting = FileEntry(slot, len(content), hashlib.sha256(content).hexdigest())
        write_manifest(folder, manifest.step, [fitting if e.name == slot else e for e in manifest.files])


def load_planted(rank: int, world_size: int, root: str) -> dict[str, str]:
    """For each slot, kind and manner: what loading says."""
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    base, answers = Path(root) / "base", {}
    engine = make_engine(rank, world_size, SETUP)
    train(engine, rank, world_size, 0, 1)
    save_checkpoint(engine, base, 1, {"step": 1}, keep_last=1, best=True)
    before = digest(full_state(engine))
    for slot in SLOTS:
        for kind, make in KINDS.items():
            for honest in (False, True):
                folder = shutil.copytree(base, Path(root) / f"{slot}-{kind}-{honest}")
                plant(folder / "step_00000001", slot, make(Path(root) / "mark"), honest=honest)
                try:
                    load_checkpoint(engine, folder)
                    answers[f"{slot} {kind} {honest}"] = "loaded"
                except CheckpointError as error:
                    answers[f"{slot} {kind} {honest}"] = str(error)
                assert digest(full_state(engine)) == before
                shutil.rmtree(folder)
    return answers


@pytest.mark.multirank
def test_a_planted_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    (answers,) = run_ranks(load_planted, 1, str(tmp_path))
    assert not (tmp_path / "mark").exists()
    assert len(answers) == len(SLOTS) * len(KINDS) * 2
    for case, answer in answers.items():
        slot = case.split()[0]
        # a pointer is a name, and a wrong one is only reported: the folders themselves are looked at
        assert answer == "loaded" if slot in ("latest", "best") else slot in answer, case
        assert "digest" not in answer, case
        assert not case.endswith("True") or "SHA-256" not in answer, case


@pytest.mark.multirank
@pytest.mark.parametrize("command", ["ls", "verify", "diff", "prune"])
def test_commands_do_not_run_it_either(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str], saved: Path
) -> None:
    for slot in SLOTS:
        root = shutil.copytree(saved, tmp_path / slot)
        plant(root / "step_00000001", slot, bare(tmp_path / "mark"), honest=True)
        arguments = {
            "ls": ["ls", "--verify", root],
            "verify": ["verify", root],
            "diff": ["diff", root / "step_00000001", saved / "step_00000001"],
            "prune": ["prune", root, "--keep-last", 1, "--keep-best", "--yes"],
        }[command]
        code = main(["checkpoint", *map(str, arguments)])
        text = "".join(capsys.readouterr())
        assert code == (0 if command == "ls" or slot in ("latest", "best") else 2), text
        assert slot in ("latest", "best") or re.search(rf"{slot}: ", text), text
        assert not (tmp_path / "mark").exists()


def save_one(rank: int, world_size: int, root: str) -> None:
    from smoe_ds.engine.checkpoint import save_checkpoint

    engine = make_engine(rank, world_size, SETUP)
    save_checkpoint(engine, Path(root), 1, {}, keep_last=1, best=True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("saved") / "checkpoints"
    run_ranks(save_one, 1, str(root))
    return root


@pytest.mark.multirank
def test_every_file_of_a_checkpoint_is_safetensors_json_or_a_name(saved: Path) -> None:
    from safetensors import safe_open

    folder = saved / "step_00000001"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["manifest.json", "model-00000.safetensors", "optimizer-00000.safetensors", "state.json"]
    for path in folder.iterdir():
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        else:
            with safe_open(path, framework="np") as part:
                assert len(list(part.keys())) > 10
    assert (saved / "latest").read_text() == (saved / "best").read_text() == "step_00000001\n"
