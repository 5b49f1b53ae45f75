"""``smoe-ds upcycle``: the new model decodes as the dense one did, and a run starts from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("strata", [[4], [2, 2], [2, 2, 2, 2]], ids=str)
def test_it_decodes_as_the_dense_model(
    dense_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], strata: list[int]
) -> None:
    out = tmp_path / "out"
    assert upcycle(dense_run, "--set", f"smoe.moe.strata={strata}", "--output", out) == 0
    dense, mixture = (load_translator(folder, device="cpu") for folder in (dense_run, out))
    before, after = (sum(p.numel() for p in one.model.parameters()) for one in (dense, mixture))
    assert (
        f"strata {strata} and {after:,} parameters (the dense one has {before:,}) to {out}; to train it, set "
        in capsys.readouterr().err
    )
    translations = dense.translate(LINES, "nso")
    assert [t.text for t in mixture.translate(LINES, "nso")] == [t.text for t in translations]
    targets = [t.tokens for t in translations]
    assert mixture.score(LINES, targets, "nso") == pytest.approx(dense.score(LINES, targets, "nso"), rel=1e-5)
    assert TrainedRun(out).checkpoint().name == "step_00000007"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--method", "adapters", "--set", "smoe.moe.experts.rank=4"],
        ["--set", 'smoe.moe.experts={"kind": "mpo"}'],
    ],
    ids=["adapters", "mpo"],
)
def test_other_kinds_decode_as_the_dense_model(dense_run: Path, tmp_path: Path, arguments: list[str]) -> None:
    out = tmp_path / "out"
    assert upcycle(dense_run, *arguments, "--set", "smoe.moe.strata=[4]", "--output", out) == 0
    dense, mixture = (load_translator(folder, device="cpu") for folder in (dense_run, out))
    targets = [t.tokens for t in dense.translate(LINES, "nso")]
    assert [t.tokens for t in mixture.translate(LINES, "nso")] == targets
    assert mixture.score(LINES, targets, "nso") == pytest.approx(dense.score(LINES, targets, "nso"), rel=1e-5)


def test_plain_copies_in_strata_do_not(dense_run: Path, tmp_path: Path) -> None:
    copies = ["--method", "copy", "--set", "smoe.moe.strata=[2,2]"]
    assert upcycle(dense_run, *copies, "--output", tmp_path / "out") == 0
    dense, mixture = (load_translator(folder, device="cpu") for folder in (dense_run, tmp_path / "out"))
    targets = [t.tokens for t in dense.translate(LINES, "nso")]
    assert mixture.score(LINES, targets, "nso") != pytest.approx(dense.score(LINES, targets, "nso"), rel=1e-3)


@pytest.mark.parametrize("dense_settings", [{}, {"capacity_factor": 1.0, "combine_weights": "raw"}])
def test_all_parts_of_its_layers_decode_as_the_dense_model(
    tmp_path: Path, corpus: Corpus, dense_settings: dict[str, Any]
) -> None:
    dense_run = random_run(tmp_path, corpus, moe={"strata": [], **dense_settings})
    parts = ["--method", "moefy", "--set", "smoe.moe.strata=[4]", "--set", "smoe.moe.top_k=4"]
    assert upcycle(dense_run, *parts, "--output", tmp_path / "out") == 0
    dense, mixture = (load_translator(folder, device="cpu") for folder in (dense_run, tmp_path / "out"))
    translations = dense.translate(LINES, "nso")
    assert [t.text for t in mixture.translate(LINES, "nso")] == [t.text for t in translations]
    moe = TrainedRun(tmp_path / "out").config.smoe.moe
    assert (moe.capacity_factor, moe.combine_weights, moe.second_expert) == (None, "ones", "argmax")
    assert moe.expert_ffn == dense.model.config.d_ffn // 4


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
        (["--set", "smoe.moe.strata=[2,1]"], "smoe.moe.top_k: 2 is above the 1 experts"),
        (["--set", "smoe.moe.strata=[4]", "--set", "smoe.model.d_ffn=64"], "is not the dense twin of the model"),
        (["--set", "smoe.moe.strata=[4]", "--checkpoint", "8"], "there are the steps 7"),
        (
            ["--set", "smoe.moe.strata=[4]", "--set", "smoe.moe.experts.kind=adapters"],
            "encoder.layers.1.ffn has experts of the kind adapters, which --method preserve does not make",
        ),
        (
            ["--set", "smoe.moe.strata=[4]", "--set", "smoe.moe.experts.kind=mpo", "--method", "adapters"],
            "of the kind mpo, which --method adapters does not make; use --method preserve",
        ),
        (["--set", "smoe.moe.strata=[4]", "--method", "adapters", "--noise", "0.1"], "adapters start apart already"),
        (
            ["--set", "smoe.moe.strata=[2,2]", "--set", "smoe.moe.norm=released"],
            "set it to paper (encoder.layers.1.ffn)",
        ),
        (["--set", "smoe.moe.strata=[4]", "--noise", "-1"], "expected a number, 0 or more"),
        (["--method", "moefy", "--set", "smoe.moe.strata=[2,2]"], "smoe.moe.strata: is [2, 2]; MoEfication makes one"),
        (
            ["--method", "moefy", "--set", "smoe.moe.strata=[4]", "--set", "smoe.moe.experts.kind=mpo"],
            "smoe.moe.experts: is mpo; MoEfication needs ffn",
        ),
        (["--method", "moefy", "--set", "smoe.moe.strata=[4]", "--noise", "1"], "--noise: parts with noise do not"),
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
