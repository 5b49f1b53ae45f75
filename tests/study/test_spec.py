"""Study files: which runs they mean, and what is wrong with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from smoe_ds.data.manifest import read_manifest, write_manifest
from smoe_ds.errors import ConfigError
from smoe_ds.planning.paper_tables import TABLES
from smoe_ds.study.identity import earlier_fingerprint
from smoe_ds.study.row import Row, append_row, read_rows
from smoe_ds.study.spec import Study, load_study
from tests.helpers.environment import ROOT

BASE = ROOT / "ds_configs/small_cpu.json"
TEXT = f"""
base: {BASE}
output: out
settings: {{smoe.train.max_steps: 7}}
seeds: [3, 5]
against: vanilla
systems:
  dense: {{smoe.moe.strata: []}}
  vanilla: {{smoe.moe.strata: [8]}}
variants:
  raw: {{systems: [vanilla], smoe.moe.combine_weights: raw}}
seeds_of: {{dense: [3]}}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "study.yaml"
    file.write_text(text)
    return file


def test_runs_come_seed_by_seed(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, TEXT), {"smoe.data.temperature": 2.0})
    found = [(run.system, run.variant, run.seed) for run in study.runs]
    assert found == [
        ("dense", "", 3),
        ("vanilla", "", 3),
        ("vanilla", "raw", 3),
        ("vanilla", "", 5),
        ("vanilla", "raw", 5),
    ]
    for run in study.runs:
        smoe = run.config.smoe
        assert (smoe.train.max_steps, smoe.train.seed, smoe.data.temperature) == (7, run.seed, 2.0)
        assert smoe.moe.strata == ([] if run.system == "dense" else [8])
        assert smoe.moe.combine_weights == ("raw" if run.variant else "after_drop")
        assert run.folder.parent == Path("out/runs")
    assert len({run.folder for run in study.runs}) == len(study.runs)


def test_another_setting_is_another_run(tmp_path: Path) -> None:
    """So that results of other settings are never taken for these; the folder does not count."""
    file = written(tmp_path, TEXT)
    first, other, moved = (
        load_study(file, settings, folder).runs[0]
        for settings, folder in (({}, None), ({"smoe.train.max_steps": 8}, None), ({}, tmp_path))
    )
    assert first.fingerprint != other.fingerprint
    assert first.folder != other.folder
    assert first.fingerprint == moved.fingerprint


def rows_of(study: Study) -> list[Row]:
    return [
        Row(run.system, run.variant, run.seed, run.fingerprint, "done", folder=str(run.folder), identity=run.identity)
        for run in study.runs
    ]


def known(study: Study) -> int:
    """How many of its runs have a row."""
    rows = {row.key for row in read_rows(study.results)}
    return sum(run.key in rows for run in study.runs)


def earlier_version(row: Row, change: Callable[[dict[str, str]], None]) -> Row:
    """The row as a version wrote it that knew other keys or had other defaults."""
    assert row.identity is not None
    settings = dict(row.identity.settings)
    change(settings)
    identity = replace(row.identity, settings=settings)
    return replace(row, identity=identity, fingerprint=identity.fingerprint)


def test_rows_stay_with_their_runs_when_the_program_learns_a_key(tmp_path: Path) -> None:
    """In sections of every kind, a router's own too; so do run folders."""
    text = TEXT.replace("dense: {smoe.moe.strata: []}", "dense: {smoe.moe.strata: [8], smoe.moe.router: {kind: top_p}}")
    file = written(tmp_path, text)
    study = load_study(file, output=tmp_path / "out")
    new = ("smoe.moe.router_z_weight", "smoe.train.cooldown_steps", "gradient_clipping", "smoe.moe.router.threshold")
    assert set(new) <= set(study.runs[0].identity.settings)
    for row in rows_of(study):
        append_row(study.results, earlier_version(row, lambda settings: [settings.pop(key, None) for key in new]))
    again = load_study(file, output=tmp_path / "out")
    assert known(again) == len(study.runs)
    assert not {run.folder for run in again.runs} & {run.folder for run in study.runs}  # those of the earlier version
    assert [run.folder.name[-8:] for run in again.runs] == [run.fingerprint for run in again.runs]
    assert known(load_study(file, {"smoe.moe.router_z_weight": 0.1}, tmp_path / "out")) == 0, (
        "the key is not at its default"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: settings.update({"smoe.data.window": "7"}),  # a default that has changed since
        lambda settings: settings.update({"smoe.moe.gone": "3"}),
        lambda settings: settings.pop("smoe.train.max_steps"),  # which the study sets
    ],
    ids=["default", "unknown", "set"],
)
def test_rows_of_other_settings_are_others(tmp_path: Path, change: Callable[[dict[str, str]], None]) -> None:
    file = written(tmp_path, TEXT)
    study = load_study(file, output=tmp_path / "out")
    for row in rows_of(study):
        append_row(study.results, earlier_version(row, change))
    assert known(load_study(file, output=tmp_path / "out")) == 0


def test_ranks_make_another_run(tmp_path: Path) -> None:
    file = written(tmp_path, TEXT)
    study = load_study(file, {"train_batch_size": 4}, tmp_path / "out")
    for row in rows_of(study):
        append_row(study.results, row)
    assert known(load_study(file, {"train_batch_size": 4}, tmp_path / "out")) == len(study.runs)
    assert known(load_study(file, {"train_batch_size": 4}, tmp_path / "out", ranks=2)) == 0


def test_the_text_of_the_corpus_makes_another_run_and_its_place_does_not(tmp_path: Path, corpus_folder: Path) -> None:
    file = written(tmp_path, TEXT)
    corpus = shutil.copytree(corpus_folder, tmp_path / "corpus")
    study = load_study(file, {"smoe.data.path": str(corpus)}, tmp_path / "out")
    for row in rows_of(study):
        append_row(study.results, row)
    moved = shutil.copytree(corpus_folder, tmp_path / "moved")
    assert known(load_study(file, {"smoe.data.path": str(moved)}, tmp_path / "out")) == len(study.runs)
    entries = read_manifest(corpus)
    entries["tokenizer"]["sha256"] = "0" * 64
    write_manifest(corpus, entries)
    assert known(load_study(file, {"smoe.data.path": str(corpus)}, tmp_path / "out")) == 0
    shutil.rmtree(corpus)  # rows alone, on another machine
    assert known(load_study(file, {"smoe.data.path": str(corpus)}, tmp_path / "out")) == len(study.runs)


@pytest.mark.parametrize("folder", [True, False], ids=["with folders", "rows alone"])
def test_rows_and_folders_of_versions_without_identities(tmp_path: Path, folder: bool) -> None:
    file = written(tmp_path, TEXT)
    study = load_study(file, output=tmp_path / "out")
    for run in study.runs[:3]:
        fingerprint = earlier_fingerprint(run.config)
        place = run.folder.with_name(f"{run.name}-seed{run.seed}-{fingerprint}")
        if folder:
            place.mkdir(parents=True)
            content = run.config.to_dict()
            del content["smoe"]["moe"]["router_z_weight"]
            (place / "config.json").write_text(json.dumps(content))
        if not folder or run is study.runs[0]:
            append_row(study.results, Row(run.system, run.variant, run.seed, fingerprint, "done", folder=str(place)))
    again = load_study(file, output=tmp_path / "out")
    assert [run.fingerprint == earlier_fingerprint(run.config) for run in again.runs] == [True] * 3 + [False] * 2
    assert known(again) == (1 if folder else 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("against: vanilla", "against: vanila"), r"against: vanila is none of the systems dense, vanilla"),
        (("seeds: [3, 5]", "seeds: []"), r"seeds: expected 1 values"),
        (("seeds: [3, 5]", "seeds: [3, 3]"), r"seeds: \[3, 3\] names a seed twice; each makes one run"),
        (("smoe.moe.strata: [8]", "smoe.moe.stratta: [8]"), r"vanilla: .*did you mean smoe\.moe\.strata"),
        (("smoe.moe.strata: [8]", "smoe.train.seed: 8"), r"vanilla: smoe\.train\.seed: is set by the study itself"),
        (("systems: [vanilla]", "systems: [switch]"), r"variants\.raw: switch is none of the systems"),
        (("seeds_of: {dense: [3]}", "seeds_of: {dens: [3]}"), r"seeds_of: dens is none of the systems"),
        (("  dense: {", "  ../dense: {"), r"systems: '\.\./dense' becomes the name of a folder"),
        (("output: out", "outputs: out"), r"outputs: unknown key; did you mean output"),
        (("systems:", "systems: [\n#"), r"not YAML"),
        ((f"base: {BASE}", "base: nowhere.json"), r"nowhere\.json"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in TEXT
    with pytest.raises(ConfigError, match=message):
        load_study(written(tmp_path, TEXT.replace(*change, 1)))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read .*small\.yaml"):
        load_study(tmp_path / "none.yaml")


@pytest.mark.parametrize("file", sorted((ROOT / "ds_configs/studies").glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_studies_can_be_run(file: Path) -> None:
    study = load_study(file)
    assert study.spec.against in study.spec.systems
    assert {"dense", "vanilla"} <= set(study.spec.systems)


@pytest.mark.parametrize("name", ["m4", "m15", "opus100"])
def test_the_papers_studies_start_as_its_authors_code(name: str) -> None:
    for run in load_study(ROOT / f"ds_configs/studies/{name}.yaml").runs:
        smoe = run.config.smoe
        assert {smoe.model.ffn_init, smoe.moe.expert_init, smoe.moe.gate_init} == {"linear"}


@pytest.mark.parametrize("table", ["M4", "M15"])
def test_the_papers_studies_have_the_systems_of_its_tables(table: str) -> None:
    rows = TABLES[table]
    moes = [run.config.smoe.moe for run in load_study(ROOT / f"ds_configs/studies/{table.lower()}.yaml").runs]
    found = [(tuple(m.strata), m.top_k, m.stacked, m.shared_expert == "cmr") for m in moes]
    assert found == [(row.strata, row.top_k, row.stacked, row.cmr) for row in rows]
    assert [m.expert_output_masking for m in moes] == [0.1 if row.system == "MoE+EOM" else 0.0 for row in rows]
