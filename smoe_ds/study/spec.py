"""What a study is: a run file, systems that each change some of its keys, variants of these, and seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from smoe_ds.config.checks import check_world
from smoe_ds.config.load import load_run
from smoe_ds.config.problems import dotted, rephrase
from smoe_ds.config.run import RunConfig
from smoe_ds.config.section import Section
from smoe_ds.config.yaml_text import read_yaml
from smoe_ds.errors import ConfigError
from smoe_ds.study.identity import Identity, corpus_digest, matching, written_identity
from smoe_ds.study.row import Row, read_rows

Settings = dict[str, Any]
RESULTS = "results.jsonl"
OWN_KEYS = ("smoe.train.output_dir", "smoe.train.seed")
"""Keys that a study sets itself."""


class EvaluateSpec(Section):
    """``evaluate``: translate and score held-out text after training."""

    split: str = Field(default="test", description="Held-out text to translate: valid or test.")
    limit: int | None = Field(default=None, gt=0, description="Sentences per direction, at most.")


class AnalyzeSpec(Section):
    """``analyze``: measure requested capacity in held-out text after training."""

    split: str = Field(default="valid", description="Text to read: valid or test.")
    limit: int | None = Field(default=None, gt=0, description="Sentences per direction, at most.")


class StudySpec(Section):
    """A study file. Settings are keys of the run file, dotted, with their values."""

    base: str = Field(description="Run file that all runs start from, relative to the study file.")
    output: str = Field(description="Folder for runs and results. A relative path starts in the folder you are in.")
    ranks: int = Field(
        default=1, gt=0, description="Ranks of each run, all on one host; above 1 torchrun starts them, one a GPU."
    )
    settings: Settings = Field(default={}, description="Changes that hold for all runs.")
    seeds: list[int] = Field(default=[1], min_length=1, description="Values of smoe.train.seed; one run each.")
    systems: dict[str, Settings] = Field(min_length=1, description="Name of each system, and its changes.")
    variants: dict[str, Settings] = Field(
        default={}, description="Further changes, each tried on the systems it names under `systems` (default: all)."
    )
    seeds_of: dict[str, list[int]] = Field(
        default={}, description="Seeds of single systems, in place of `seeds`: fewer for the less important ones."
    )
    against: str | None = Field(default=None, description="System that all others are tested against.")
    groups: dict[str, list[str]] = Field(
        default={}, description='Languages of named groups, e.g. {"low": ["nso"]}: means over their directions.'
    )
    evaluate: EvaluateSpec | None = Field(default=None, description="If given, translations are made and scored too.")
    analyze: AnalyzeSpec | None = Field(
        default=None, description="If given, requested capacity is analysed too, with tests of whether it is chance."
    )

    def rules(self) -> Iterator[tuple[str, str]]:
        for key, seeds in [("seeds", self.seeds), *(("seeds_of", some) for some in self.seeds_of.values())]:
            if len(set(seeds)) < len(seeds):
                yield key, f"{seeds} names a seed twice; each makes one run"
        if self.against is not None and self.against not in self.systems:
            yield "against", f"{self.against} is none of the systems {', '.join(self.systems)}"
        for name in self.seeds_of:
            if name not in self.systems:
                yield "seeds_of", f"{name} is none of the systems {', '.join(self.systems)}"
        for name in [*self.systems, *self.variants]:
            if not name or any(char in "/\\ \t\n" or not char.isprintable() for char in name) or name[0] == ".":
                yield "systems", f"{name!r} becomes the name of a folder; use letters, digits, - and _"


@dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    Attributes:
        system: its name.
        variant: its name; empty for the system as it is.
        seed: of the run.
        config: the resolved run.
        overrides: ``KEY=VALUE`` for ``smoe-ds train BASE --set``.
        folder: the run folder.
        identity: what makes it another run.
        fingerprint: short for that; of an earlier run that is the same, its own.
    """

    system: str
    variant: str
    seed: int
    config: RunConfig
    overrides: tuple[str, ...]
    folder: Path
    identity: Identity
    fingerprint: str

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What its rows are found by, as `smoe_ds.study.row.Row.key`."""
        return self.system, self.variant, self.seed, self.fingerprint

    @property
    def name(self) -> str:
        """``SYSTEM``, or ``SYSTEM+VARIANT``."""
        return f"{self.system}+{self.variant}" if self.variant else self.system


@dataclass(frozen=True)
class Study:
    """A study that can be run.

    Attributes:
        file: the study file.
        spec: what it says.
        base: the run file.
        output: folder for runs and results.
        runs: all runs, seed by seed, so that a study that is cut short has all systems.
    """

    file: Path
    spec: StudySpec
    base: Path
    output: Path
    runs: tuple[StudyRun, ...]

    @property
    def results(self) -> Path:
        """``results.jsonl``: a row for every run that ended."""
        return self.output / RESULTS

    @property
    def constants(self) -> Path:
        """Where a calibration of the machine lies, if there is one, see `smoe_ds.scaling.calibrate`."""
        return self.output / "constants.json"


def load_study(
    file: Path, overrides: Mapping[str, Any] | None = None, output: Path | None = None, ranks: int | None = None
) -> Study:
    """Reads a study, and checks all of its runs.

    Args:
        file: YAML.
        overrides: further settings for all runs, after the file's own.
        output: folder in place of the file's.
        ranks: of each run, in place of the file's.

    Raises:
        ConfigError: every problem of the file and of its runs.
        DataError: the corpus is damaged.
        CheckpointError: the results are damaged.
    """
    spec = _read(file)
    if ranks is not None:
        spec = spec.model_copy(update={"ranks": ranks})
    base = file.parent / spec.base
    folder = Path(spec.output) if output is None else output
    place = _Place(base, folder, spec.ranks, read_rows(folder / RESULTS))
    broken: list[str] = []
    runs = []
    for seed_number in range(max(map(len, [spec.seeds, *spec.seeds_of.values()]))):
        for system, variant, changes in _systems(spec):
            seeds = spec.seeds_of.get(system, spec.seeds)
            if seed_number >= len(seeds):
                continue
            try:
                runs.append(_run(place, system, variant, seeds[seed_number], changes, overrides or {}))
            except ConfigError as error:
                where = f"{file}: {system}{f'+{variant}' if variant else ''}"
                broken += [f"{where}: {problem}" for problem in error.problems]
    if broken:
        raise ConfigError(list(dict.fromkeys(broken)))
    return Study(file, spec, base, folder, tuple(runs))


def _read(file: Path) -> StudySpec:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file}: cannot be read ({error}); name a study such as ds_configs/studies/small.yaml"
        ) from None
    tree = read_yaml(text, f"{file}: is")
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: expected keys such as base, output and systems")
    try:
        return StudySpec.model_validate(tree)
    except ValidationError as error:
        problems = rephrase(error, StudySpec, (), {})
        raise ConfigError([f"{file}: {dotted(one.path)}: {one.message}" for one in problems]) from None


def _systems(spec: StudySpec) -> Iterator[tuple[str, str, Settings]]:
    """System, variant, and the changes of both."""
    for system, changes in spec.systems.items():
        yield system, "", {**spec.settings, **changes}
    for variant, more in spec.variants.items():
        settings = {key: value for key, value in more.items() if key != "systems"}
        for system in more.get("systems", spec.systems):
            if system not in spec.systems:
                raise ConfigError(f"variants.{variant}: {system} is none of the systems {', '.join(spec.systems)}")
            yield system, variant, {**spec.settings, **spec.systems[system], **settings}


@dataclass(frozen=True)
class _Place:
    """Where the runs of a study start from and where they go."""

    base: Path
    output: Path
    ranks: int
    rows: list[Row]
    corpora: dict[str, str | None] = field(default_factory=dict)

    def corpus(self, path: str) -> str | None:
        if path not in self.corpora:
            self.corpora[path] = corpus_digest(Path(path))
        return self.corpora[path]

    def known(self, name: str, seed: int) -> dict[str, Identity | None]:
        """What is known of earlier runs of a name and seed, by fingerprint, oldest first."""
        own = [row for row in self.rows if (row.name, row.seed) == (name, seed)]
        stem = f"{name}-seed{seed}-"
        folders = {
            path.name[len(stem) :]: path for path in sorted((self.output / "runs").glob(f"{escape(stem)}????????"))
        }
        found = {fingerprint: written_identity(folder) for fingerprint, folder in folders.items()}
        return found | {
            row.fingerprint: row.identity or written_identity(Path(row.folder)) or found.get(row.fingerprint)
            for row in own
        }


def _run(
    place: _Place, system: str, variant: str, seed: int, changes: Settings, overrides: Mapping[str, Any]
) -> StudyRun:
    settings = {**changes, **overrides}
    if own := [key for key in OWN_KEYS if key in settings]:
        raise ConfigError(f"{own[0]}: is set by the study itself; leave it out")
    written = tuple(f"{key}={json.dumps(value)}" for key, value in settings.items())
    written += (f"smoe.train.seed={seed}",)
    config = load_run(place.base, [*written, f"smoe.train.output_dir={json.dumps(str(place.output))}"])
    check_world(config, place.ranks)
    name = f"{system}+{variant}" if variant else system
    identity = Identity.of(config, place.ranks, place.corpus(config.smoe.data.path))
    fingerprint = matching(place.known(name, seed), config, identity)
    folder = place.output / "runs" / f"{name}-seed{seed}-{fingerprint}"
    written += (f"smoe.train.output_dir={json.dumps(str(folder))}",)
    return StudyRun(system, variant, seed, config, written, folder, identity, fingerprint)
