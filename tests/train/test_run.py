"""Whole runs through ``smoe-ds train`` on real ranks: resumed equals uninterrupted, signals, refusals."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from smoe_ds.errors import LaunchError
from smoe_ds.parallel.device import gpu_of
from smoe_ds.parallel.ports import free_port
from smoe_ds.train.phases import PHASES
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import scalars, small_run, train_on_rank, write_run


def train(tmp_path: Path, run: dict[str, Any], *overrides: str, world_size: int = 2, code: int = 0) -> Path:
    """Train on ranks; every rank must return the exit code. Returns the run folder."""
    file = write_run(tmp_path / "run.json", run)
    codes = run_ranks(train_on_rank, world_size, str(file), list(overrides), init=False, timeout=240)
    assert codes == [code] * world_size
    return Path(run["smoe"]["train"]["output_dir"])


def checkpoint_hashes(folder: Path, step: int) -> dict[str, str]:
    """SHA-256 of every tensor file of a checkpoint: weights, moments."""
    files = sorted((folder / "checkpoints" / f"step_{step:08d}").glob("*.safetensors"))
    assert files
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.multirank
@pytest.mark.parametrize(("ep_size", "stage"), [(2, 1), (1, 2), (2, 0)])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    tmp_path: Path, corpus_folder: Path, ep_size: int, stage: int
) -> None:
    settings = (f"smoe.moe.ep_size={ep_size}", f"zero_optimization.stage={stage}", "train_batch_size=4")
    whole = train(tmp_path, small_run(tmp_path / "whole", corpus_folder), *settings)
    parts = small_run(tmp_path / "parts", corpus_folder)
    train(tmp_path, parts, *settings, "smoe.train.max_steps=2")
    train(tmp_path, parts, *settings, "smoe.train.max_steps=5")
    resumed = train(tmp_path, parts, *settings)
    assert checkpoint_hashes(resumed, 6) == checkpoint_hashes(whole, 6)
    expected, got = scalars(whole), scalars(resumed)
    for tag in ("train/loss", "train/nll", "train/gradient_norm", "train/load_balancing_loss", "train/learning_rate"):
        assert got[tag] == expected[tag]
        assert sorted(got[tag]) == [1, 2, 3, 4, 5, 6]
    assert expected["valid/nll"][6] == got["valid/nll"][6]


@pytest.mark.multirank
def test_run_folder_and_tensorboard(tmp_path: Path, corpus_folder: Path) -> None:
    run = small_run(tmp_path / "run", corpus_folder, max_steps=30, log_every=5, validate_every=10, checkpoint_every=10)
    folder = train(tmp_path, run, "smoe.moe.ep_size=2", "smoe.train.validate_bleu=3")
    names = sorted(entry.name for entry in folder.iterdir())
    logs = ["history.jsonl", "tensorboard"]
    assert names == sorted(["checkpoints", "config.json", "environment.json", "run.lock", "tokenizer.model", *logs])
    assert json.loads((folder / "config.json").read_text())["smoe"]["moe"]["ep_size"] == 2
    assert json.loads((folder / "environment.json").read_text())["versions"]["deepspeed"]
    steps = [entry.name for entry in (folder / "checkpoints").glob("step_*")]
    assert sorted(steps) == ["step_00000020", "step_00000030"]
    assert (folder / "checkpoints" / "latest").read_text().strip() == "step_00000030"
    logged = scalars(folder)
    assert sorted(logged["train/nll"]) == [5, 10, 15, 20, 25, 30]
    assert logged["train/nll"][30] < logged["train/nll"][5] - 0.3  # it learns
    assert logged["valid/nll"][30] < logged["valid/nll"][10]
    assert sorted(logged["valid/nll/eng-nso"]) == [10, 20, 30]
    for side in ("encoder.1", "decoder.1"):
        assert all(1 < value < 2 for value in logged[f"moe_requested_capacity/{side}"].values())
        assert all(value == 1 for value in logged[f"moe_tokens/{side}/stratum_0"].values())
        assert all(0 < value < 1 for value in logged[f"moe_tokens/{side}/stratum_1"].values())
        assert all(1 <= value <= 4 for value in logged[f"moe_load/{side}/stratum_0"].values())
        assert all(0 <= value < 1 for value in logged[f"moe_dropped/{side}/stratum_0"].values())
    assert logged["data_epochs/eng-nso"][30] > 0
    check_panels(folder, logged)


def check_panels(folder: Path, logged: dict[str, dict[int, float]]) -> None:
    """What TensorBoard's own reader finds besides plain figures of training."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["Is it learning?", "Is it balanced?", "Is it fast?"]
    empty = [
        chart.title
        for category in layout.category
        for chart in category.chart
        if not any(re.match(tag, name) for tag in chart.multiline.tag for name in logged)
    ]
    assert empty == [], "every chart has something to show"
    assert sorted(logged)[0].startswith("1 learning/") and "data_epochs/eng-nso" in logged
    pictures = events.Images("load of experts")
    assert [one.step for one in pictures] == [5, 10, 15, 20, 25, 30]
    assert pictures[0].encoded_image_string.startswith(b"\x89PNG") and pictures[0].height == (4 + 1) * 18
    text = events.Tensors("translations/eng-nso/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert [line.split()[0] for line in text.splitlines() if line.strip()] == ["source", "translation", "reference"] * 2
    assert sorted(logged["valid_chrf/eng-nso"]) == [10, 20, 30]
    for direction in ("eng-nso", "nso-eng", "eng-cat", "cat-eng"):
        assert all(1 <= value <= 2 for value in logged[f"valid_rc_encoder/{direction}"].values())
        assert logged[f"train_nll/{direction}"]
    seconds = sum(logged[f"time/{phase} (s)"][30] for phase in PHASES)
    assert 0 < seconds <= 1.05 * logged["train/seconds_per_step"][30]
    assert logged["time/exchange (s)"][30] > 0 and 0 < logged["memory/host (GiB)"][30] < 64


def test_finished_run_is_left_as_it_is(tmp_path: Path, corpus_folder: Path) -> None:
    run = small_run(tmp_path / "run", corpus_folder, max_steps=2)
    folder = train(tmp_path, run, world_size=1)
    before = checkpoint_hashes(folder, 2)
    train(tmp_path, run, world_size=1)
    assert checkpoint_hashes(folder, 2) == before
    assert sorted(scalars(folder)["train/nll"]) == [1, 2]


def test_dense_switch_and_vanilla_train(tmp_path: Path, corpus_folder: Path) -> None:
    for name, overrides in {
        "dense": ["smoe.moe.strata=[]"],
        "vanilla": ["smoe.moe.strata=[4]"],
        "switch": ["smoe.moe.strata=[4]", "smoe.moe.top_k=1"],
        "released": ["smoe.moe.norm=released", "smoe.moe.load_balancing_batch=local"],
    }.items():
        run = small_run(tmp_path / name, corpus_folder, max_steps=3)
        logged = scalars(train(tmp_path, run, *overrides, world_size=1))
        assert logged["train/nll"][3] < logged["train/nll"][1]
        assert ("train/load_balancing_loss" in logged) == (name != "dense")


@pytest.mark.multirank
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_as_float32_does(tmp_path: Path, corpus_folder: Path, precision: str) -> None:
    float32 = scalars(train(tmp_path, small_run(tmp_path / "fp32", corpus_folder), "smoe.moe.ep_size=2"))
    scale = {"initial_scale_power": 8} if precision == "fp16" else {}
    run = small_run(tmp_path / precision, corpus_folder) | {precision: {"enabled": True, **scale}}
    logged = scalars(train(tmp_path, run, "smoe.moe.ep_size=2"))
    assert logged["train/nll"][6] < logged["train/nll"][1]
    for step, nll in float32["train/nll"].items():
        assert logged["train/nll"][step] == pytest.approx(nll, rel=0.02)
    assert ("train/loss_scale" in logged) == (precision == "fp16")


def start(run_file: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "smoe_ds", "train", str(run_file)]
    for override in overrides:
        command += ["--set", override]
    environ = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "MASTER_PORT": str(free_port())}
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_first_lines_tell_of_threads_and_the_validation_lines_of_what_is_left_out(
    tmp_path: Path, corpus_folder: Path
) -> None:
    run = small_run(tmp_path / "run", corpus_folder, max_steps=1, validate_batches=1)
    run["smoe"]["model"]["max_positions"] = 25
    with start(write_run(tmp_path / "run.json", run)) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    lines = output.splitlines()
    assert re.search(r"^1 thread\(s\) a rank, 1 rank\(s\) on this host, which may use \d+ core\(s\)$", output, re.M)
    (warning,) = (line for line in lines if line.startswith("warning: validation leaves out "))
    too_long, total = re.findall(r"\d+", warning)[:2]
    (validation,) = (line for line in lines if " | validation nll " in line)
    assert re.search(rf" \| \d+ of {total} pairs, {too_long} too long \| best so far$", validation)
    logged = scalars(tmp_path / "run")
    assert logged["valid/skipped_sentences"] == {1: int(too_long)} and 0 < logged["valid/pairs"][1] < int(total)


def test_signal_saves_and_the_same_command_goes_on(tmp_path: Path, corpus_folder: Path) -> None:
    run = small_run(
        tmp_path / "run", corpus_folder, max_steps=100_000, validate_every=100_000, checkpoint_every=100_000
    )
    file = write_run(tmp_path / "run.json", run)
    with start(file) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step"):
                break
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    [saved] = (tmp_path / "run" / "checkpoints").glob("step_*")
    step = int(saved.name.removeprefix("step_"))
    with start(file, f"smoe.train.max_steps={step + 1}") as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert f"continuing after step {step}" in output


def test_time_limit_ends_the_run_with_a_validated_checkpoint(tmp_path: Path, corpus_folder: Path) -> None:
    run = small_run(tmp_path / "run", corpus_folder, max_steps=100_000, max_minutes=0.05, validate_every=100_000)
    began = time.monotonic()
    folder = train(tmp_path, run, world_size=1)
    assert time.monotonic() - began < 60
    assert (folder / "checkpoints" / "best").exists()
    assert len(scalars(folder)["valid/nll"]) == 1


def fail(tmp_path: Path, run: dict[str, Any], *overrides: str) -> str:
    with start(write_run(tmp_path / "run.json", run), *overrides) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert "Traceback" not in output
    return output


def test_signal_in_the_last_step_does_not_cost_the_last_validation(tmp_path: Path, corpus_folder: Path) -> None:
    run = small_run(tmp_path / "run", corpus_folder, max_steps=2, validate_every=100)
    file = write_run(tmp_path / "run.json", run)
    assert run_ranks(_stop_in_the_last_step, 1, str(file), init=False) == [0]
    assert sorted(scalars(tmp_path / "run")["valid/nll"]) == [2]
    assert (tmp_path / "run" / "checkpoints" / "best").read_text().strip() == "step_00000002"


def _stop_in_the_last_step(rank: int, world_size: int, file: str) -> int:
    from smoe_ds.train.trainer import Trainer

    one_step = Trainer._step

    def signalled(self: Trainer) -> None:
        one_step(self)
        if self.progress.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    Trainer._step = signalled  # type: ignore[method-assign]
    return train_on_rank(rank, world_size, file, [])


@pytest.mark.multirank
def test_balance_loss_of_two_ranks_is_that_of_both_micro_batches(tmp_path: Path, corpus_folder: Path) -> None:
    """What the trainer logs for the default, global balance loss, against both micro-batches in one process."""
    from smoe_ds.config import load_run
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.data.stream import TrainStream
    from smoe_ds.model.transformer import Transformer
    from smoe_ds.train.micro_step import seed_micro_batch

    run = small_run(tmp_path / "run", corpus_folder, max_steps=1)
    run["smoe"]["model"] |= {"dropout": 0.0, "attention_dropout": 0.0}
    run["smoe"]["moe"] |= {"expert_init": "xavier"}
    logged = scalars(train(tmp_path, run, "smoe.moe.ep_size=2"))["train/load_balancing_loss"][1]
    smoe = load_run(tmp_path / "run.json").smoe
    corpus = Corpus(corpus_folder)
    ids = {language: corpus.tokenizer.language_id(language) for language in corpus.languages}
    stream = TrainStream(
        {name: corpus.sentences("train", name) for name in corpus.directions},
        ids,
        smoe.data,
        seed=smoe.train.seed,
        max_positions=smoe.model.max_positions,
        micro_batches_per_step=2,
        rank=0,
        world_size=1,
        fingerprint=corpus.fingerprint,
        prefetch=False,
    )
    model = Transformer(smoe.model, smoe.moe, corpus.tokenizer.vocab_size, seed=smoe.train.seed)
    both = []
    for batch in stream.next_step().batches:
        seed_micro_batch(smoe.train.seed, batch.index)
        both.append(model(batch.src, batch.tgt_in)[1])
    gates = []
    for blocks in zip(*both, strict=True):
        for strata in zip(*(block.strata for block in blocks), strict=True):
            tokens = sum(s.num_tokens for s in strata)
            share = sum(s.first_choice_E for s in strata) / tokens
            gates.append((share.numel() * share * sum(s.prob_sum_E for s in strata) / tokens).sum().item())
    assert logged == pytest.approx(sum(gates) / len(gates), rel=1e-5)


def test_folder_that_cannot_be_written_is_one_line(tmp_path: Path, corpus_folder: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    output = fail(tmp_path, small_run(tmp_path / "file" / "run", corpus_folder))
    assert "choose another smoe.train.output_dir" in output
    assert len(output.strip().splitlines()) == 1


def test_a_run_that_saved_nothing_may_be_changed(tmp_path: Path, corpus_folder: Path) -> None:
    run = small_run(tmp_path / "run", corpus_folder, max_steps=1)
    train(tmp_path, run, world_size=1)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    train(tmp_path, run, "smoe.moe.strata=[4]", world_size=1)


@pytest.mark.parametrize(("local_rank", "visible", "gpu"), [(0, 8, 0), (3, 8, 3), (3, 1, 0)])
def test_gpu_of_a_rank(local_rank: int, visible: int, gpu: int) -> None:
    assert gpu_of(local_rank, visible) == gpu


def test_more_ranks_than_gpus_are_refused() -> None:
    with pytest.raises(LaunchError, match="has 2 GPUs; start at most 2 ranks"):
        gpu_of(2, 2)


def test_another_model_in_the_same_folder_is_refused(tmp_path: Path, corpus_folder: Path) -> None:
    run = small_run(tmp_path / "run", corpus_folder, max_steps=1)
    train(tmp_path, run, world_size=1)
    output = fail(tmp_path, run, "smoe.moe.strata=[4]")
    assert "smoe.moe.strata: [4], but the run in" in output
    assert "has [2, 2]" in output


def test_missing_corpus_is_one_line(tmp_path: Path) -> None:
    output = fail(tmp_path, small_run(tmp_path / "run", tmp_path / "nothing"))
    assert "manifest.json: missing" in output


def test_resume_never_refuses_a_folder_with_checkpoints(tmp_path: Path, corpus_folder: Path) -> None:
    run = small_run(tmp_path / "run", corpus_folder, max_steps=1)
    train(tmp_path, run, world_size=1)
    with start(write_run(tmp_path / "run.json", run)) as process:
        process.communicate(timeout=60)
    command = [sys.executable, "-m", "smoe_ds", "train", str(tmp_path / "run.json"), "--resume", "never"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "already has checkpoints" in done.stderr
