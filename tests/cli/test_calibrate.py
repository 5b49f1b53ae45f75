"""``smoe-ds calibrate`` as a user runs it, alone and on ranks, and ``smoe-ds plan --nodes`` on what it wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.scaling.constants import BETWEEN, KINDS, assumed_constants, load_constants
from tests.helpers.environment import ROOT
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import small_run, write_run

CONFIGS = ROOT / "ds_configs"
M15 = ["plan", str(CONFIGS / "m15.json")]


def calibrate(rank: int, world_size: int, *words: str) -> int:
    return main(["calibrate", *words, "--repeats", "1", "--debug"])


def small(tmp_path: Path, corpus: Corpus, **moe: Any) -> Path:
    run = small_run(tmp_path / "run", corpus.path)
    run["smoe"]["moe"] |= moe
    return write_run(tmp_path / "run.json", run)


@pytest.mark.multirank
def test_two_ranks(tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    file, output = small(tmp_path, corpus, ep_size=2), tmp_path / "constants.json"
    assert run_ranks(calibrate, 2, str(file), "--output", str(output), init=False) == [0, 0]
    found = load_constants(output)
    assert set(found.lines) == set(KINDS) - set(BETWEEN)
    assert all(one.measured and one.points for one in found.lines.values())
    assert 0.5 < found.padded_share <= 1 and 0.5 < found.real_share <= 1
    here = found.circumstances
    assert (here["hosts"], here["ranks_per_host"], here["threads"]) == (1, 2, 1)
    assert here["model"]["d_model"] == 32 and "torch" in here["versions"] and here["date"].startswith("20")
    words = ["plan", str(file), "--nodes", "1", "--gpus-per-node", "2", "--constants", str(output)]
    assert main([*words, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert all(content["measured"].values())
    assert content["step"]["parts"]["exchange"] > 0
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "assumed" not in text and "measured on" in text
    assert main([*words, "--set", "fp16.enabled=true"]) == 2
    assert "runs in fp16" in capsys.readouterr().err
    assert main([*words[:3], "2", *words[4:], "--micro-batches", "1"]) == 2
    assert "--interconnect ib-fdr" in capsys.readouterr().err


def calibrate_on_two_hosts(rank: int, world_size: int, *words: str) -> int:
    """As a launcher would start two ranks on each of two hosts; the link between them is this machine's loopback."""
    os.environ |= {"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": str(rank % 2)}
    return calibrate(rank, world_size, *words)


@pytest.mark.multirank
def test_two_hosts(tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    file, output = small(tmp_path, corpus, ep_size=4), tmp_path / "constants.json"
    assert run_ranks(calibrate_on_two_hosts, 4, str(file), "--output", str(output), init=False) == [0] * 4
    found = load_constants(output)
    assert set(found.lines) == set(KINDS)
    assert (found.circumstances["hosts"], found.circumstances["ranks_per_host"]) == (2, 2)
    # A host sends what both of its ranks send, and passes on what both pass on.
    sizes = {kind: found.lines[kind].points[-1][0] for kind in BETWEEN}
    assert sizes == {"all_to_all_between": 2 * 2**23, "all_reduce_between": 2 * 2**23}
    words = ["plan", str(file), "--nodes", "2", "--gpus-per-node", "2", "--micro-batches", "1", "--json"]
    assert main([*words, "--constants", str(output)]) == 0
    content = json.loads(capsys.readouterr().out)
    assert all(content["measured"].values()) and content["step"]["parts"]["exchange"] > 0


@pytest.mark.multirank
def test_alone_and_without_a_corpus(tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    file, output = small(tmp_path, corpus), tmp_path / "constants.json"
    words = [str(file), "--output", str(output), "--set", "smoe.data.path=nowhere", "--vocab-size", "300"]
    assert run_ranks(calibrate, 1, *words, init=False) == [0]
    found = load_constants(output)
    assert set(found.lines) == {"dense", "expert", "routing", "memory", "transfer", "update", "host_update"}
    plan = ["plan", str(file), "--vocab-size", "300", "--constants", str(output), "--gpus-per-node", "1"]
    assert main([*plan, "--nodes", "1,2", "--interconnect", "ethernet-10g"]) == 0
    captured = capsys.readouterr()
    assert "all reduce between" in captured.out and "assumed: 0.7 of 1.25e+09 byte/s (ethernet-10g" in captured.out
    assert captured.err == ""
    assert main([*plan, "--nodes", "1", "--set", "smoe.model.d_model=64"]) == 0
    assert "measured with d_model 32 (here 64)" in capsys.readouterr().err


@pytest.mark.multirank
def test_a_file_that_cannot_be_written(tmp_path: Path, corpus: Corpus) -> None:
    file = small(tmp_path, corpus)
    words = [str(file), "--output", str(tmp_path / "nowhere" / "constants.json"), "--repeats", "1"]
    ((code, printed),) = run_ranks(refused, 1, words, init=False)
    assert (code, "cannot be written" in printed and "--output" in printed) == (2, True)


def test_the_run_file_is_not_overwritten(tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    file = small(tmp_path, corpus)
    before = file.read_bytes()
    assert main(["calibrate", str(file), "--output", str(file)]) == 2
    assert "exists and does not hold the results of a calibration" in capsys.readouterr().err
    assert file.read_bytes() == before
    earlier = assumed_constants("v100", "fp16").as_json()
    file.write_text(json.dumps(earlier), encoding="utf-8")
    assert main(["calibrate", "nowhere.json", "--output", str(file)]) == 2
    assert "nowhere.json: " in capsys.readouterr().err, (
        "an earlier result may be replaced, and the next mistake is told"
    )


def refused(rank: int, world_size: int, words: list[str]) -> tuple[int, str]:
    import contextlib
    import io

    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        return main(["calibrate", *words]), printed.getvalue()


def test_at_scale(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*M15, "--nodes", "16", "--gpus-per-node", "8", "--interconnect", "ib-hdr", "--micro-batches", "1"]
    assert main(words) == 0
    text = capsys.readouterr().out
    for part in (
        "16 x 8 V100 (128 ranks)",
        "seconds of a step",
        "tokens per second",
        "efficiency",
        "memory per device",
    ):
        assert part in text
    assert main([*words, "--json", "--set", "smoe.moe.ep_size=8"]) == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert content["gpus"] == 128 and content["train_batch_size"] == 128
    assert content["step"]["seconds"] == pytest.approx(sum(content["step"]["parts"].values()))
    assert len(content["step"]["exchange"]) == 2
    assert content["constants"]["lines"]["dense"]["measured"] is False
    assert "ep_size 4 spreads [4, 12] evenly" in captured.err


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*M15, "--nodes", "1,2,4,8", "--interconnect", "ib-edr", "--ports", "4", "--json"]
    assert main(words) == 0
    rows = json.loads(capsys.readouterr().out)["predictions"]
    assert [row["gpus"] for row in rows] == [8, 16, 32, 64]
    assert "cannot be shared by 64 ranks" in rows[-1]["error"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nodes", "4"], "all reduce between was not measured"),
        (["--nodes", "x"], "--nodes x: expected numbers of 1 or more"),
        (["--nodes", "1,0"], "--nodes 1,0: expected numbers"),
        (["--nodes", "1", "--gpus-per-node", "0"], "--gpus-per-node 0: expected 1 or more"),
        (["--nodes", "1", "--world-size", "8"], "--world-size: follows from --nodes"),
        (["--nodes", "8", "--interconnect", "ib-edr"], "32 micro-batches a step cannot be shared by 64 ranks"),
        (["--nodes", "1", "--set", "smoe.moe.ep_size=16"], "16 does not divide the 8 ranks"),
        (["--nodes", "1", "--set", "extends=engine/cpu_fp32.json"], "which device?"),
        (["--nodes", "1", "--device", "h201"], "did you mean h200?"),
        (["--nodes", "1", "--constants", str(CONFIGS / "m4.json")], "is damaged, or no file of smoe-ds calibrate"),
        (["--interconnect", "ib-hdr"], "--interconnect: only works together with --nodes; add --nodes N"),
        (["--device", "v100"], "--device: only works together with --nodes"),
    ],
)
def test_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*M15, *words]) == 2
    assert message in capsys.readouterr().err
