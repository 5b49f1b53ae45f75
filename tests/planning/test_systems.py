"""Every system at a run's sizes: against the real models, and what is to be written for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smoe_ds.cli.main import main
from smoe_ds.config import RunConfig, load_run
from smoe_ds.config.routers import ROUTERS
from smoe_ds.errors import ConfigError
from smoe_ds.model.transformer import Transformer
from smoe_ds.planning.plan import make_plan
from smoe_ds.planning.systems import SYSTEMS, SystemRow, run_of, system_rows
from tests.planning.test_plan import CONFIGS, SMALL

RUN = [*SMALL, "smoe.moe.strata=[2,2]", "smoe.moe.capacity_factor=1.5", "smoe.moe.top_k=1", "smoe.moe.num_experts=4"]
RUN += ["smoe.model.language_capacity.languages=3"]
ROWS = {system.name: system for system in SYSTEMS}


def rows_of(*settings: str) -> dict[str, SystemRow]:
    return {row.system: row for row in system_rows(load_run(CONFIGS / "m4.json", [*SMALL, *settings]), 100)}


def written(settings: dict[str, Any]) -> list[str]:
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


@pytest.mark.parametrize("name", ROWS)
def test_its_settings_make_a_run_with_its_numbers(name: str) -> None:
    run = load_run(CONFIGS / "m4.json", RUN)
    row = next(row for row in system_rows(run, 100) if row.system == name)
    assert row.problem is None
    changed: RunConfig = load_run(CONFIGS / "m4.json", [*RUN, *written(row.settings)])
    assert changed.smoe == run_of(ROWS[name], run).smoe
    model, plan = Transformer(changed.smoe.model, changed.smoe.moe, 100), make_plan(changed, vocab_size=100)
    assert row.parameters == sum(p.numel() for p in model.parameters())
    assert (row.flops_per_token, row.rows_per_token) == (plan.flops_per_token, plan.ffns_per_token)
    assert sum(changed.smoe.moe.strata) == (0 if name == "Dense" else 4)


def test_every_router_has_a_line() -> None:
    settings = [part for system in SYSTEMS for part in (system.moe, *system.moe.get("layers", {}).values())]
    with_line = {"top_k", *(part["router"]["kind"] for part in settings if "router" in part)}
    kinds = {section.model_fields["kind"].default for section in ROUTERS}
    assert kinds - with_line == set(), "write their lines in smoe_ds/planning/systems.py"


def test_the_papers_numbers() -> None:
    rows = {row.system: row for row in system_rows(load_run(CONFIGS / "m4.json"), 32_000)}
    published = {"Dense": 167, "Vanilla MoE": 192, "Switch Transformer": 167, "MoE+EOM": 192, "CMR": 217, "SMoE": 217}
    for name, flops in {**published, "Stacking": 242}.items():
        assert rows[name].flops_per_token == pytest.approx(flops * 1e6, abs=1e6), name
    assert rows["SMoE"].settings == {}
    assert (rows["THOR"].training_passes, rows["THOR"].rows_per_token) == (2, 1.0)
    assert {row.training_passes for name, row in rows.items() if name not in ("THOR", "CLSR")} == {1}


def test_what_follows_from_the_sizes() -> None:
    rows = rows_of("smoe.moe.strata=[2,2]", "smoe.moe.every=2", "smoe.model.encoder_layers=5")
    assert rows["PR-MoE"].settings["smoe.moe.layers"] == {"encoder.4": {"strata": [8]}, "decoder.2": {"strata": [8]}}
    assert rows["HMoE"].settings["smoe.moe.expert_widths"] == [5, 7, 9, 11]
    assert int(rows["PR-MoE"].parameters or 0) > int(rows["PR-MoE, residual"].parameters or 0)


def test_what_the_sizes_do_not_allow_is_listed_with_the_reason() -> None:
    rows = rows_of("smoe.moe.strata=[4]")
    assert {name for name, row in rows.items() if row.problem} == {"Stacking", "SMoE", "CLSR"}
    assert "set languages to as many as the vocabulary has" in str(rows["CLSR"].problem)
    assert rows["SMoE"].problem == "smoe.moe.strata: [4] is one stratum; split it in two or more"
    assert rows["SMoE"].parameters is None
    single = rows_of("smoe.moe.strata=[1]", "smoe.moe.top_k=1")
    assert "smoe.moe.top_k: 2 is above the 1 experts" in str(single["Vanilla MoE"].problem)
    assert single["Switch Transformer"].problem is None
    dense = rows_of("smoe.moe.strata=[]")
    assert [name for name, row in dense.items() if row.problem is None] == ["Dense"]
    assert "the run has no experts" in str(dense["CMR"].problem)


def test_runs_whose_layers_differ_are_refused() -> None:
    run = load_run(CONFIGS / "m4.json", [*SMALL, 'smoe.moe.layers={"decoder.*": {"top_k": 1}}'])
    with pytest.raises(ConfigError, match="layers makes blocks differ"):
        system_rows(run, 100)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", str(CONFIGS / "m4.json"), "--systems", "--vocab-size", "100"]
    words += [word for setting in [*SMALL, "smoe.moe.strata=[4]"] for word in ("--set", setting)]
    assert main(words) == 0
    text = capsys.readouterr().out
    (thor,) = [line for line in text.splitlines() if line.startswith("THOR")]
    assert "2110.04260" in thor and '--set \'smoe.moe.router={"kind":"random"}\'' in thor
    (vanilla,) = [line for line in text.splitlines() if line.startswith("Vanilla MoE")]
    assert vanilla.endswith("none: it is this run")
    assert "SMoE is impossible here: smoe.moe.strata: [4] is one stratum" in text
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["system"] for row in rows] == list(ROWS)
    assert rows[[row["system"] for row in rows].index("THOR")]["settings"] == {"smoe.moe.router": {"kind": "random"}}
    assert main([*words, "--world-size", "2"]) == 2
    assert "--world-size: does not work together with --systems" in capsys.readouterr().err
