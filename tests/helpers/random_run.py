"""A run folder with random weights: everything a trained run has, without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from smoe_ds.checkpoints import format as checkpoint_format
from smoe_ds.checkpoints.part_file import PartFile
from smoe_ds.config.load import load_run
from smoe_ds.data.corpus import Corpus
from smoe_ds.engine.state import persistent_buffers
from smoe_ds.model.transformer import Transformer
from smoe_ds.run.folder import RunFolder
from smoe_ds.run.record import write_record
from tests.helpers.small_run import small_run, write_run


def random_run(folder: Path, corpus: Corpus, *, steps: tuple[int, ...] = (1,), **smoe: dict[str, Any]) -> Path:
    """Writes a run folder with a checkpoint of other random weights per step; the first step is the best.

    Args:
        folder: where the run and its run file go.
        corpus: the corpus it claims to be trained on.
        steps: steps with a checkpoint.
        smoe: keys to change per section, e.g. ``data={"source_language_token": False}``.
    """
    run_dir = folder / "run"
    settings = small_run(run_dir, corpus.path)
    for section, keys in smoe.items():
        settings["smoe"].setdefault(section, {}).update(keys)
    run = load_run(write_run(folder / "run.json", settings))
    write_record(RunFolder(run_dir), run, corpus.tokenizer.model_file, world_size=1)
    root = RunFolder(run_dir).checkpoints
    sizes = run.smoe.model.model_copy(update={"ffn_init": "xavier"})
    moe = run.smoe.moe.model_copy(update={"expert_init": "xavier", "gate_init": "xavier"})
    for step in steps:
        model = Transformer(sizes, moe, corpus.tokenizer.vocab_size, seed=100 + step)
        buffers = {name: buffer.float() for name, buffer in persistent_buffers(model).items()}
        write_checkpoint(root, step, scattered(model, step) | buffers)
    (root / "best").write_text(checkpoint_format.folder_name(steps[0]) + "\n")
    (root / "latest").write_text(checkpoint_format.folder_name(steps[-1]) + "\n")
    return run_dir


def scattered(model: Transformer, seed: int) -> dict[str, torch.Tensor]:
    """The model's weights with noise, so that every parameter matters."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: parameter.detach() + 0.2 * torch.randn(parameter.shape, generator=generator)
        for name, parameter in model.named_parameters()
    }


def write_checkpoint(root: Path, step: int, weights: dict[str, torch.Tensor]) -> Path:
    """Writes a committed checkpoint that holds weights alone."""
    folder = root / checkpoint_format.folder_name(step)
    folder.mkdir(parents=True)
    part = PartFile(
        folder / checkpoint_format.part_name("model", 0), [(n, tuple(w.shape)) for n, w in weights.items()], {}
    )
    for name, weight in weights.items():
        part.write(name, weight)
    checkpoint_format.write_manifest(folder, step, [part.close()])
    return folder


def change_config(run_dir: Path, section: str, key: str, value: Any) -> None:
    """Changes one key of ``smoe`` in a run folder's config.json."""
    path = run_dir / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["smoe"][section][key] = value
    path.write_text(json.dumps(config), encoding="utf-8")
