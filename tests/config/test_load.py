"""Reading, extending, overriding: what the resolved run holds, and what is said when it cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smoe_ds.config import load_run
from smoe_ds.errors import ConfigError

MINIMAL = {
    "train_batch_size": 4,
    "optimizer": {"type": "Adam", "params": {"lr": 1e-3}},
    "smoe": {"data": {"path": "data/x"}, "train": {"output_dir": "runs/x"}},
}


def write(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_run(path, overrides)
    return caught.value.problems


def test_defaults_that_surprise_are_written_out(tmp_path: Path) -> None:
    run = load_run(write(tmp_path, "run.json", MINIMAL))
    assert run.deepspeed["gradient_clipping"] == 0.0
    assert run.deepspeed["train_micro_batch_size_per_gpu"] == 1
    assert run.deepspeed["zero_optimization"] == {"stage": 0}
    assert run.deepspeed["optimizer"]["params"] == {
        "lr": 1e-3,
        "betas": [0.9, 0.98],
        "eps": 1e-6,
        "weight_decay": 0.0,
        "adam_w_mode": False,
    }
    assert run.deepspeed["fp16"] == {"enabled": False}
    assert run.deepspeed["bf16"] == {"enabled": False, "check_grad_overflow": True}
    assert (run.train_batch_size, run.peak_lr, run.precision, run.zero_stage) == (4, 1e-3, "fp32", 0)
    assert run.smoe.moe.strata == [4, 4]


def test_adamw_decays_decoupled(tmp_path: Path) -> None:
    run = load_run(write(tmp_path, "run.json", MINIMAL), ["optimizer.type=AdamW"])
    assert run.deepspeed["optimizer"]["params"]["adam_w_mode"] is True


def test_hjson_comments_and_exponents(tmp_path: Path) -> None:
    text = """{
      // a comment
      # another
      "train_batch_size": 4, /* and
      another */ "zero_optimization": {"stage": 1, "reduce_bucket_size": 5e7},
      "optimizer": {"type": "Adam", "params": {"lr": 8e-4}},
      "smoe": {"data": {"path": "d"}, "train": {"output_dir": "o"}}
    }"""
    run = load_run(write(tmp_path, "run.json", "\ufeff" + text))
    bucket = run.deepspeed["zero_optimization"]["reduce_bucket_size"]
    assert bucket == 50_000_000
    assert isinstance(bucket, int)


def test_extends_merges_deeply_later_wins_lists_replaced(tmp_path: Path) -> None:
    write(tmp_path, "engine/a.json", {**MINIMAL, "zero_optimization": {"stage": 1, "overlap_comm": True}})
    write(tmp_path, "engine/b.json", {"zero_optimization": {"stage": 2}, "smoe": {"moe": {"strata": [2, 2, 2]}}})
    top = write(
        tmp_path,
        "run.json",
        {"extends": ["engine/a.json", "engine/b.json"], "smoe": {"moe": {"strata": [8]}, "train": {"seed": 7}}},
    )
    run = load_run(top)
    assert run.deepspeed["zero_optimization"] == {"stage": 2, "overlap_comm": True}
    assert run.smoe.moe.strata == [8]
    assert run.smoe.train.seed == 7
    assert run.smoe.train.output_dir == "runs/x"
    assert "extends" not in run.to_dict()


def test_extends_of_the_extended_file_is_relative_to_it(tmp_path: Path) -> None:
    write(tmp_path, "a/base.json", MINIMAL)
    write(tmp_path, "a/b/middle.json", {"extends": ["../base.json"], "train_batch_size": 8})
    top = write(tmp_path, "c/run.json", {"extends": ["../a/b/middle.json"]})
    assert load_run(top).train_batch_size == 8


def test_extends_cycle_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.json", {"extends": ["b.json"]})
    top = write(tmp_path, "b.json", {"extends": ["a.json"], **MINIMAL})
    (problem,) = problems(top)
    assert "cycle" in problem


def test_same_parent_twice_is_no_cycle(tmp_path: Path) -> None:
    write(tmp_path, "base.json", MINIMAL)
    write(tmp_path, "a.json", {"extends": ["base.json"]})
    write(tmp_path, "b.json", {"extends": ["base.json"], "train_batch_size": 6})
    top = write(tmp_path, "run.json", {"extends": ["a.json", "b.json"]})
    assert load_run(top).train_batch_size == 6


@pytest.mark.parametrize("extends", [3, ["a.json", 4], {"a": 1}, [""]])
def test_extends_of_another_kind_is_refused(tmp_path: Path, extends: object) -> None:
    (problem,) = problems(write(tmp_path, "run.json", {"extends": extends, **MINIMAL}))
    assert "extends: expected a list of files" in problem


def test_missing_parent_is_named_with_the_rule(tmp_path: Path) -> None:
    top = write(tmp_path, "run.json", {"extends": ["engine/none.json"], **MINIMAL})
    (problem,) = problems(top)
    assert str(tmp_path / "engine/none.json") in problem
    assert "relative to the file that extends" in problem


def test_set_extends_swaps_the_engine(tmp_path: Path) -> None:
    write(tmp_path, "engine/a.json", {"zero_optimization": {"stage": 1}})
    write(tmp_path, "engine/b.json", {"zero_optimization": {"stage": 2}})
    top = write(tmp_path, "run.json", {"extends": ["engine/a.json"], **MINIMAL})
    assert load_run(top).zero_stage == 1
    assert load_run(top, ["extends=engine/b.json"]).zero_stage == 2
    assert load_run(top, ['extends=["engine/a.json", "engine/b.json"]']).zero_stage == 2
    assert load_run(top, ["extends=[]"]).zero_stage == 0


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"train_batch_size": 1, "train_batch_size": 2}', "train_batch_size: written twice"),
        ('{"smoe": {"moe": {"ep_size": 1, "top_k": 1, "ep_size": 2}}}', "ep_size: written twice"),
        ('{"a": [1, 2}', "is not JSON"),
        ("[1, 2]", "expected an object"),
    ],
)
def test_unreadable_text_names_the_file(tmp_path: Path, text: str, where: str) -> None:
    path = write(tmp_path, "run.json", text)
    (problem,) = problems(path)
    assert problem.startswith(str(path))
    assert where in problem


def test_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    assert "no such file" in problems(tmp_path / "none.json")[0]
    assert "cannot be read" in problems(tmp_path)[0]
    binary = tmp_path / "run.json"
    binary.write_bytes(b'{"a": "\xff"}')
    assert "not UTF-8" in problems(binary)[0]


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("smoe.moe.strata=[4,12]", lambda run: run.smoe.moe.strata == [4, 12]),
        ("smoe.moe.strata=[2, 2]", lambda run: run.smoe.moe.strata == [2, 2]),
        ("smoe.moe.capacity_factor=null", lambda run: run.smoe.moe.capacity_factor is None),
        ("smoe.data.path=data/has spaces=and equals", lambda run: run.smoe.data.path == "data/has spaces=and equals"),
        ('smoe.data.path="12"', lambda run: run.smoe.data.path == "12"),
        ("smoe.data.directions=[\neng-nso\nnso-eng\n]", lambda run: run.smoe.data.directions == ["eng-nso", "nso-eng"]),
        ("optimizer.params.lr=5e-4", lambda run: run.peak_lr == 5e-4),
        ("optimizer.params={weight_decay: 0.1}", lambda run: run.peak_lr == 1e-3),
        ("smoe.data.source_language_token=false", lambda run: run.smoe.data.source_language_token is False),
    ],
)
def test_set(tmp_path: Path, override: str, read: object) -> None:
    assert read(load_run(write(tmp_path, "run.json", MINIMAL), [override]))  # type: ignore[operator]


def test_later_set_wins(tmp_path: Path) -> None:
    run = load_run(write(tmp_path, "run.json", MINIMAL), ["smoe.train.seed=2", "smoe.train.seed=3"])
    assert run.smoe.train.seed == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("smoe.moe.strata", "expected KEY=VALUE"),
        ("=4", "expected KEY=VALUE"),
        ("smoe..moe=4", "expected KEY=VALUE"),
        ("smoe.moe.strata=[4,", "neither JSON nor hjson"),
        ("smoe.moe.strata.0=4", "expected a list such as"),
        ("optimizer.type.x=4", "optimizer.type has no keys inside"),
        ("train_batch_size.x=4", "train_batch_size has no keys inside"),
        ("smoe.moe.stratta=[4]", "did you mean smoe.moe.strata?"),
        ("smoe.moee.strata=[4]", "did you mean smoe.moe?"),
        ("strata=[4]", "did you mean smoe.moe.strata?"),
        ("optimizer.params.learning_rate=1", "unknown key; known here: adam_w_mode, betas"),
    ],
)
def test_set_refused(tmp_path: Path, override: str, message: str) -> None:
    (problem,) = problems(write(tmp_path, "run.json", {**MINIMAL, "smoe": {**MINIMAL["smoe"]}}), override)  # type: ignore[dict-item]
    assert problem.startswith("--set: ")
    assert message in problem


def test_every_problem_at_once_with_the_file_that_wrote_it(tmp_path: Path) -> None:
    engine = write(tmp_path, "engine.json", {"zero_optimisation": {"stage": 1}, "fp16": {"enabled": "yes"}})
    top = write(
        tmp_path,
        "run.json",
        {
            "extends": ["engine.json"],
            "train_batch_size": 0,
            "scheduler": {"type": "WarmupLR"},
            "smoe": {"model": {"num_heads": 7}, "train": {"max_step": 3}},
        },
    )
    assert problems(top, "smoe.moe.norm=post") == [
        f"{top}: scheduler: would conflict with the schedule of smoe_ds; remove it and set smoe.train.warmup_steps and "
        "warmup_init_lr (inverse square root decay from optimizer.params.lr)",
        f"{top}: train_batch_size: expected a value > 0, found 0 (whole number)",
        f'{top}: optimizer: missing; E.g. {{"type": "Adam", "params": {{"lr": 8e-4}}}}.',
        f'{engine}: fp16.enabled: expected true or false, found "yes" (text)',
        f"{engine}: zero_optimisation: unknown key; did you mean zero_optimization?",
        f"{top}: smoe.model.num_heads: 7 does not divide d_model 512; choose one of [1, 2, 4, 8, 16, 32, 64]",
        "--set: smoe.moe.norm: expected 'paper' or 'released', found \"post\" (text)",
        f"{top}: smoe.data: missing; The prepared corpus: at least its path.",
        f"{top}: smoe.train.output_dir: missing; Run folder: configuration, TensorBoard log, checkpoints. "
        "A relative path starts in the folder you are in.",
        f"{top}: smoe.train.max_step: unknown key; did you mean smoe.train.max_steps?",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("smoe.model.dropout=1.0", "expected a value < 1, found 1.0 (number)"),
        ("smoe.model.d_model=512.0", "expected a whole number, found 512.0 (number)"),
        ("smoe.model.d_model=true", "expected a whole number, found true (boolean)"),
        ("smoe.model.dropout=half", 'expected a number, found "half" (text)'),
        ("smoe.model.dropout=1e999", "expected a finite number"),
        ("smoe.data.path=3", "expected text, found 3 (whole number)"),
        ("smoe.moe.strata=4", "expected a list such as"),
        ("smoe.moe.norm=papr", 'did you mean "paper"?'),
        ("smoe.decode=7", "expected an object {...}, found 7"),
        ("optimizer.params.betas=[0.9]", "expected 2 values, found [0.9] (list)"),
        ("optimizer.params.betas=[0.9,1.5]", "must lie between 0 and 1"),
        ("train_micro_batch_size_per_gpu=4", "expected 1, found 4"),
        ("optimizer.params.lr=0", "expected a value > 0"),
        ("zero_optimization=true", "expected an object {...}, found true"),
    ],
)
def test_wrong_values_say_what_was_found(tmp_path: Path, override: str, message: str) -> None:
    (problem,) = problems(write(tmp_path, "run.json", MINIMAL), override)
    assert message in problem


def test_missing_smoe_section(tmp_path: Path) -> None:
    path = write(tmp_path, "run.json", {key: value for key, value in MINIMAL.items() if key != "smoe"})
    (problem,) = problems(path)
    assert problem.startswith(f"{path}: smoe: missing")
