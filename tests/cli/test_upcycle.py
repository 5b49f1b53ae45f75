"""``smoe-ds upcycle``: the new model decodes as the dense one did, and a run starts from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import TrainedRun, load_translator
from tests.helpers.random_run import random_run
from tests.helpers.small_run import small_run, train_here, write_run

LINES = ["The house sees snow.", "My old friend opens the blue door."]


@pytest.fixture(scope="module")
def dense_run(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    return random_run(tmp_path_factory.mktemp("dense"), corpus, steps=(7,), moe={"strata": []})


def upcycle(*arguments: object) -> int:
    return main(["upcycle", *map(str, arguments)])


def test_one_stratum_decodes_as_the_dense_model(
    dense_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert upcycle(dense_run, "--set", "smoe.moe.strata=[4]", "--output", out) == 0
    dense, mixture = (load_translator(folder, device="cpu") for folder in (dense_run, out))
    before, after = (sum(p.numel() for p in one.model.parameters()) for one in (dense, mixture))
    assert (
        f"strata [4] and {after:,} parameters (the dense one has {before:,}) to {out}; to train it, set "
        in capsys.readouterr().err
    )
    translations = dense.translate(LINES, "nso")
    assert [t.text for t in mixture.translate(LINES, "nso")] == [t.text for t in translations]
    targets = [t.tokens for t in translations]
    assert mixture.score(LINES, targets, "nso") == pytest.approx(dense.score(LINES, targets, "nso"), rel=1e-5)
    assert TrainedRun(out).checkpoint().name == "step_00000007"


@pytest.mark.multirank
def test_a_run_starts_from_it(dense_run: Path, corpus: Corpus, tmp_path: Path) -> None:
    strata = ["--set", "smoe.moe.strata=[2,2]", "--noise", "0.1"]
    assert upcycle(dense_run, *strata, "--output", tmp_path / "out") == 0
    run = small_run(tmp_path / "next", corpus.path, max_steps=1, init_from=str(tmp_path / "out"))
    code, printed = train_here(write_run(tmp_path / "next.json", run))
    assert (code, f"with the weights of {tmp_path / 'out'}" in printed) == (0, True)
    run["smoe"]["train"] |= {"init_from": str(dense_run), "output_dir": str(tmp_path / "again")}
    code, printed = train_here(write_run(tmp_path / "again.json", run))
    assert (code, "(smoe.train.init_from) failed: " in printed) == (2, True)


def test_an_exported_dense_model_will_do(dense_run: Path, tmp_path: Path) -> None:
    assert main(["export", str(dense_run), "--output", str(tmp_path / "dense")]) == 0
    for source, out in ((tmp_path / "dense", "one"), (dense_run, "two")):
        assert upcycle(source, "--set", "smoe.moe.strata=[2,2]", "--output", tmp_path / out) == 0
    one, two = (tmp_path / out / "checkpoints" / "step_00000007" / "model-00000.safetensors" for out in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "smoe.moe.strata: is still []"),
        (["--set", "smoe.moe.strata=[2,1]"], "smoe.moe.top_k: 2 choices among 1 visible experts"),
        (["--set", "smoe.moe.strata=[4]", "--set", "smoe.model.d_ffn=64"], "is not the dense twin of the model"),
        (["--set", "smoe.moe.strata=[4]", "--checkpoint", "8"], "there are the steps 7"),
        (["--set", "smoe.moe.strata=[4]", "--noise", "-1"], "expected a number, 0 or more"),
    ],
)
def test_mistakes_are_named(
    dense_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert upcycle(dense_run, *arguments, "--output", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_mixture_is_refused(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upcycle(run_dir, "--set", "smoe.moe.strata=[4]", "--output", tmp_path / "out") == 2
    assert "has experts already (strata [2, 2]); name a dense run" in capsys.readouterr().err
