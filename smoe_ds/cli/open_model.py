"""The trained model and the held-out text that a command's arguments name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.messages import note

if TYPE_CHECKING:
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.decode.load import TrainedModel
    from smoe_ds.evaluate.held_out import HeldOut
    from smoe_ds.parallel.env import Env

_WAIT = 7 * 86_400.0
"""How long ranks wait for each other's directions [s]: whoever started them limits the time."""


def open_run(args: argparse.Namespace, device: str | None = None) -> TrainedModel:
    """The run or exported model that the arguments of `add_model_arguments` name, on a device in place of theirs; to
    decode and score with, no more."""
    from smoe_ds.decode.load import open_trained

    check_device(args.device)
    return open_trained(args.run_dir, all_overrides(args), dtype=args.dtype, device=device or args.device, packed=True)


def all_overrides(args: argparse.Namespace) -> list[str]:
    """Changes to the run's configuration: those of ``--set``, and those that have arguments of their own."""
    overrides = list(args.overrides)
    if args.beam is not None:
        overrides.append(f"smoe.decode.beam_size={args.beam}")
    if args.length_penalty is not None:
        overrides.append(f"smoe.decode.length_penalty={args.length_penalty}")
    return overrides


def check_device(device: str | None) -> None:
    """Refuses ``--device cuda`` where there is no GPU."""
    import torch

    from smoe_ds.errors import LaunchError

    if device == "cuda" and not torch.cuda.is_available():
        raise LaunchError("--device cuda: PyTorch finds no GPU; use --device cpu")


def rank_device(args: argparse.Namespace, env: Env) -> str | None:
    """This rank's GPU; None where there is but one process, which takes what is there, or no GPU."""
    import torch

    from smoe_ds.parallel.device import gpu_of

    if env.world_size == 1 or args.device == "cpu" or not torch.cuda.is_available():
        return None
    return f"cuda:{gpu_of(env.local_rank, torch.cuda.device_count())}"


def on_ranks(args: argparse.Namespace, work: Callable[[argparse.Namespace, Env], int]) -> int:
    """Does a command's work alone, or on each of the ranks that a launcher started, which meet first."""
    from smoe_ds.parallel.launchers import discover
    from smoe_ds.parallel.threads import choose_threads

    env = discover()
    choose_threads(env.local_world_size)  # before PyTorch is imported
    if env.world_size == 1:
        return work(args, env)
    import torch

    from smoe_ds.parallel.process_group import init_distributed, shutdown

    env = init_distributed(env, torch.device(rank_device(args, env) or "cpu"), timeout=_WAIT)
    code = work(args, env)
    shutdown()
    return code


def chosen_directions(
    command: str, model: TrainedModel, args: argparse.Namespace, asked: str | None, split: str
) -> tuple[Corpus, tuple[str, ...]]:
    """The corpus, and the directions that have text in a split; says which trained ones have none.

    Args:
        command: who says it.
        model: its run names the corpus, and the directions where none are asked for.
        args: ``data``.
        asked: names separated by commas.
        split: of the corpus.
    """
    from smoe_ds.evaluate.held_out import choose_directions, corpus_of

    corpus = corpus_of(model, args.data)
    chosen = choose_directions(model.config.smoe.data.directions, corpus, asked, split)
    if chosen.left_out:
        note(command, f"no {split} text, left out: {', '.join(chosen.left_out)}")
    return corpus, chosen.directions


def read_texts(
    command: str, model: TrainedModel, args: argparse.Namespace, asked: str | None, split: str
) -> list[HeldOut]:
    """The text of every such direction, ``args.limit`` sentences of each; checked before the model is read."""
    from smoe_ds.evaluate.held_out import read_held_out

    corpus, directions = chosen_directions(command, model, args, asked, split)
    texts = [read_held_out(corpus, split, name, args.limit) for name in directions]
    for text in texts:
        model.check_languages(text.source_language, text.target_language)
    return texts


def note_untrained_direction(command: str, folder: TrainedModel, source: str, target: str) -> None:
    """Says so if the run has no training text of a direction; nothing where that is not known."""
    trained = trained_directions(folder)
    if trained is not None and f"{source}-{target}" not in trained:
        note(command, f"note: the run was not trained on {source}-{target}")


def trained_directions(folder: TrainedModel) -> Sequence[str] | None:
    """The directions that a model was trained on; None where that is not known."""
    return folder.config.smoe.data.directions or _directions_of_corpus(folder)


def _directions_of_corpus(folder: TrainedModel) -> Sequence[str] | None:
    """The directions with training text; None where the corpus of the run is not at hand."""
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.errors import DataError

    try:
        corpus = Corpus(Path(folder.config.smoe.data.path), verify=False)
        return corpus.directions_of("train") if corpus.tokenizer.sha256 == folder.tokenizer.sha256 else None
    except (DataError, OSError):
        return None
