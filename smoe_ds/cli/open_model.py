"""The trained model and the held-out text that a command's arguments name."""

from __future__ import annotations

import argparse
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
    """The run or exported model that the arguments of `add_model_arguments` name, on a device in place of theirs."""
    import torch

    from smoe_ds.decode.load import open_trained
    from smoe_ds.errors import LaunchError

    if args.device == "cuda" and not torch.cuda.is_available():
        raise LaunchError("--device cuda: PyTorch finds no GPU; use --device cpu")
    overrides = list(args.overrides)
    if args.beam is not None:
        overrides.append(f"smoe.decode.beam_size={args.beam}")
    if args.length_penalty is not None:
        overrides.append(f"smoe.decode.length_penalty={args.length_penalty}")
    return open_trained(args.run_dir, overrides, dtype=args.dtype, device=device or args.device)


def rank_device(args: argparse.Namespace, env: Env) -> str | None:
    """This rank's GPU; None where there is but one process, which takes what is there, or no GPU."""
    import torch

    from smoe_ds.parallel.device import gpu_of

    if env.world_size == 1 or args.device == "cpu" or not torch.cuda.is_available():
        return None
    return f"cuda:{gpu_of(env.local_rank, torch.cuda.device_count())}"


def joined(args: argparse.Namespace, env: Env) -> Env:
    """Meets the other ranks."""
    import torch

    from smoe_ds.parallel.process_group import init_distributed

    return init_distributed(env, torch.device(rank_device(args, env) or "cpu"), timeout=_WAIT)


def chosen_directions(
    command: str, model: TrainedModel, args: argparse.Namespace, asked: str | None, split: str
) -> tuple[Corpus, tuple[str, ...]]:
    """The corpus, and the directions that have text in a split; says which trained ones have none.

    Args:
        command: who says it.
        model: its run names the corpus, and the directions where none are asked for.
        args: ``data``.
        asked: names separated by commas.
        split: ``test`` or ``valid``.
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
        model.tokenizer.language_id(text.target_language)
    return texts
