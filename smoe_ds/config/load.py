"""Loading a run: read, extend, override, validate, check; every problem at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from smoe_ds.config.checks import cross_problems, engine_problems
from smoe_ds.config.deepspeed_keys import REFUSED
from smoe_ds.config.deepspeed_sections import DeepSpeedSections
from smoe_ds.config.files import Layers, read_layers
from smoe_ds.config.overrides import nested, parse_override
from smoe_ds.config.problems import Problem, rephrase
from smoe_ds.config.run import RunConfig
from smoe_ds.config.section import Section
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.errors import ConfigError

SectionT = TypeVar("SectionT", bound=Section)


class RunFile(DeepSpeedSections):
    """All keys of a run file, for naming the nearest known one."""

    smoe: SmoeConfig = Field(
        description='The section of ours: at least {"data": {"path": ...}, "train": {"output_dir": ...}}.'
    )


def load_run(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run file with all that it extends, applies overrides, and checks the result.

    Args:
        path: a run file; hjson, so comments are allowed.
        overrides: ``"a.b.c=value"`` each, applied in order after the files. ``extends=...`` replaces the file's own
            list before anything is read, relative to the file: the way to another engine.

    Returns:
        The run, every default of ours written out.

    Raises:
        ConfigError: every problem found, one line each: file, key, what is wrong, remedy.
    """
    source = str(path)
    parsed, broken = _parse(overrides)
    layers = read_layers(source, _extends(parsed))
    _lay(layers, parsed, broken)
    try:
        run = resolve(layers, source)
    except ConfigError as error:
        raise ConfigError([*broken, *error.problems]) from None
    if broken:
        raise ConfigError(broken)
    return run


def _parse(overrides: Sequence[str]) -> tuple[list[tuple[tuple[str, ...], Any]], list[str]]:
    parsed, broken = [], []
    for text in overrides:
        try:
            parsed.append(parse_override(text))
        except ConfigError as error:
            broken += error.problems
    return parsed, broken


def load_changed_run(
    path: str | None, overrides: Sequence[str], change: Callable[[Layers], None], source: str
) -> RunConfig:
    """`load_run` with something changed between the file and the overrides.

    Args:
        path: a run file; None: nothing is read.
        overrides: as of `load_run`.
        change: changes the tree that was read.
        source: what to call the run in messages where there is no file.
    """
    parsed, broken = _parse(overrides)
    layers = Layers() if path is None else read_layers(path, _extends(parsed))
    change(layers)
    _lay(layers, parsed, broken)
    if broken:
        raise ConfigError(broken)
    return resolve(layers, path or source)


def _extends(parsed: Sequence[tuple[tuple[str, ...], Any]]) -> Any:
    """The last override of ``extends``; None without."""
    return next((value for key, value in reversed(parsed) if key == ("extends",)), None)


def _lay(layers: Layers, parsed: Sequence[tuple[tuple[str, ...], Any]], broken: list[str]) -> None:
    for key, value in parsed:
        if key != ("extends",):
            _override(layers, key, value, broken)


def _override(layers: Layers, key: tuple[str, ...], value: Any, broken: list[str]) -> None:
    target: Any = layers.tree
    for depth, name in enumerate(key[:-1]):
        target = target.get(name, {})
        if not isinstance(target, dict):
            inner = ".".join(key[: depth + 1])
            broken.append(f"--set: {'.'.join(key)}: {inner} has no keys inside; override {inner} as a whole")
            return
    layers.put(nested(key, value), "--set")


def resolve(layers: Layers, source: str) -> RunConfig:
    """Validates a merged tree.

    Raises:
        ConfigError: every problem found.
    """
    problems = list(_take_refused(layers.tree))
    smoe_tree = layers.tree.pop("smoe", None)
    engine = _validate(DeepSpeedSections, layers.tree, (), problems)
    smoe = None
    if smoe_tree is None:
        problems.append(Problem(("smoe",), f"missing; {RunFile.model_fields['smoe'].description}", missing=True))
    else:
        smoe = _validate(SmoeConfig, smoe_tree, ("smoe",), problems)
    if engine is not None:
        problems += engine_problems(engine)
    if engine is not None and smoe is not None:
        problems += cross_problems(engine, smoe)
    if problems or engine is None or smoe is None:
        raise ConfigError([problem.line(layers.origins, source) for problem in problems])
    return RunConfig(engine.resolved(), smoe, source)


def _validate(kind: type[SectionT], tree: Any, at: tuple[str, ...], problems: list[Problem]) -> SectionT | None:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problems.extend(rephrase(error, RunFile, at, REFUSED))
        return None


def _take_refused(tree: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[Problem]:
    """Removes keys that DeepSpeed knows and a run here must not set, yielding the reason for each."""
    for key in list(tree):
        path = (*at, key)
        reason = REFUSED.get(".".join(path))
        if reason is not None:
            del tree[key]
            yield Problem(path, reason)
        elif isinstance(tree[key], dict) and path != ("smoe",):
            yield from _take_refused(tree[key], path)
