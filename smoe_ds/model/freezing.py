"""Frozen parameters: which ones the patterns of ``smoe.train.freeze`` name, and what that leaves to train."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from smoe_ds.config.nearest import nearest
from smoe_ds.config.run import RunConfig
from smoe_ds.errors import ConfigError
from smoe_ds.model.parameter_kinds import kind_of
from smoe_ds.model.transformer import Transformer

KEY = "smoe.train.freeze"
_EXPERT = re.compile(r"(.*\.experts)\.\d+\.(.*)")
_ANY_VOCABULARY = 8  # names do not depend on it


def frozen_names(names: Collection[str], patterns: Sequence[str]) -> frozenset[str]:
    """The parameters that the patterns name.

    Args:
        names: of all parameters of the whole model.
        patterns: a parameter, a module (``embedding``, ``encoder.layers.0``: all of its parameters), or either with
            ``*``, ``?`` and ``[...]`` (``*attention*``).

    Raises:
        ConfigError: a pattern names nothing, with the nearest that does; or nothing is left to train.
    """
    frozen: set[str] = set()
    problems = []
    for pattern in patterns:
        found = {name for name in names if is_meant(name, [pattern])}
        if not found:
            near = _nearest(pattern, names)
            hint = f"did you mean {near}?" if near else f"they begin with {', '.join(_first_parts(names))}"
            problems.append(f"{KEY}: {pattern} names no parameter of this model; {hint}")
        frozen |= found
    if not problems and len(frozen) == len(names):
        problems.append(f"{KEY}: {list(patterns)} leaves nothing to train; take something out")
    if problems:
        raise ConfigError(problems)
    return frozenset(frozen)


def is_meant(name: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern names a parameter, or a module that it is in."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in patterns)


def _nearest(pattern: str, names: Collection[str]) -> str | None:
    """A pattern that names something and resembles this one."""
    stem = pattern.strip("*.")
    if stem and any(stem in name for name in names):
        return f"*{stem}*"
    near = nearest(stem, dict.fromkeys([*_modules(names), *names]))
    if near is not None:
        return near
    part = nearest(stem, dict.fromkeys(part for name in names for part in name.split(".")))
    return None if part is None else f"*{part}*"


def _modules(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        parts = name.split(".")
        yield from (".".join(parts[:end]) for end in range(1, len(parts)))


def _first_parts(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.split(".")[0] for name in names))


def _all_names(run: RunConfig) -> list[str]:
    """Names of all parameters of a run's whole model, whatever rank they are on."""
    with torch.device("meta"):
        model = Transformer(run.smoe.model, run.smoe.moe, _ANY_VOCABULARY)
    return [name for name, _ in model.named_parameters()]


def check_freeze(run: RunConfig) -> frozenset[str]:
    """The names that a run freezes.

    Raises:
        ConfigError: see :func:`frozen_names`; or expert parallelism does not allow it, or nothing is left that a factor
            of the learning rate is for.
    """
    if not run.smoe.train.freeze:
        return frozenset()
    names = _all_names(run)
    frozen = frozen_names(names, run.smoe.train.freeze)
    _check_factors(names, frozen, run)
    moe = run.smoe.moe
    if not moe.is_dense and moe.ep_size > 1:
        _check_experts(names, frozen, run)
    return frozen


def _check_experts(names: Iterable[str], frozen: frozenset[str], run: RunConfig) -> None:
    """Ranks of an expert-parallel group have to train parameters of the same sizes in the same order."""
    alike: dict[tuple[str, str], set[bool]] = {}
    for name in names:
        if match := _EXPERT.fullmatch(name):
            alike.setdefault((match[1], match[2]), set()).add(name in frozen)
    ep_size = run.smoe.moe.ep_size
    for (block, part), states in alike.items():
        if len(states) > 1:
            raise ConfigError(
                f"{KEY}: freezes {part} of some experts of {block} and not of others, which lie on {ep_size} ranks; "
                f"freeze it in all of them ({block}.*.{part}), or set smoe.moe.ep_size to 1"
            )
    if run.zero_stage and all(True in states for states in alike.values()):
        raise ConfigError(
            f"{KEY}: freezes all experts, which DeepSpeed's ZeRO cannot do while they are spread over {ep_size} ranks; "
            "set smoe.moe.ep_size to 1, or zero_optimization.stage to 0"
        )


def _check_factors(names: Iterable[str], frozen: frozenset[str], run: RunConfig) -> None:
    """A factor of the learning rate needs parameters that learn."""
    train = run.smoe.train
    learn = {kind_of(name) for name in names if name not in frozen}
    factors = {
        "experts": ("expert_lr_factor", train.expert_lr_factor),
        "gates": ("gate_lr_factor", train.gate_lr_factor),
    }
    for kind, (key, factor) in factors.items():
        if factor != 1 and kind not in learn:
            raise ConfigError(f"smoe.train.{key}: is {factor:g}, but {KEY} freezes all {kind}; leave one of them out")


def zero_for_good(model: nn.Module) -> str | None:
    """What is wrong with a model that is about to be trained: a frozen matrix is 0 and would never add anything.

    Returns:
        The matrix and the remedy; None if there is no such matrix on this rank.
    """
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and parameter.dim() > 1 and not parameter.any():
            match = _EXPERT.fullmatch(name)
            shown = f"{match[1]}.*.{match[2]}" if match else name
            return (
                f"{KEY}: freezes {shown}, which is 0 at the start and would stay so; take it out, start from weights "
                "that were trained (smoe.train.init_from), or let feed-forward networks start otherwise "
                "(smoe.moe.expert_init and smoe.model.ffn_init: linear)"
            )
    return None


def freeze(model: nn.Module, frozen: Collection[str]) -> None:
    """Takes parameters out of training; those on other ranks are none of this one's business."""
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
