"""A training run from its configuration to its last checkpoint."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from smoe_ds.config.finalize import finalize_deepspeed
from smoe_ds.config.run import RunConfig
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.stream import StepBatches, TrainStream
from smoe_ds.data.validation_batches import ValidationBatches
from smoe_ds.engine.adapter import build_model
from smoe_ds.engine.build import build_engine, gradient_norm, loss_scale, set_learning_rate, step_was_skipped
from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint
from smoe_ds.errors import CheckpointError, DataError, SmoeError
from smoe_ds.model.compilation import compile_dense_parts
from smoe_ds.moe.balancing import BiasBalancer
from smoe_ds.moe.expert_parallel import sum_over_ranks
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.parallel.agreement import agree
from smoe_ds.parallel.env import Env
from smoe_ds.planning.plan import placement_warnings
from smoe_ds.run.folder import check_continues, checkpoint_root, has_checkpoints, write_run_folder
from smoe_ds.train.meters import Meter
from smoe_ds.train.micro_step import LossSettings, forward, seed_micro_batch, token_scale
from smoe_ds.train.repeatable import make_deterministic
from smoe_ds.train.report import Reporter, format_duration
from smoe_ds.train.schedule import inverse_sqrt_lr
from smoe_ds.train.stopping import EXIT_PREEMPTED, STOPPED_FILE, StopSignals, any_rank, stop_file
from smoe_ds.train.updates import Updates
from smoe_ds.train.validation import validation_nll
from smoe_ds.watch.heartbeat import Heartbeat
from smoe_ds.weights.start_from import load_initial_weights


@dataclass
class Progress:
    """What a checkpoint keeps beside the weights, the optimizer and the data position.

    Attributes:
        step: optimizer steps taken (skipped ones included).
        skipped_steps: steps skipped for a gradient that was not finite.
        skipped_spikes: steps skipped for a loss or gradient norm far above what it was.
        skipped_in_a_row: steps skipped since the last that was taken.
        seconds: time spent in the run so far, over all its parts [s].
        best_nll: lowest mean validation loss so far [nat].
        last_validation: step of the last validation.
        validation_nll: mean validation loss then [nat].
    """

    step: int = 0
    skipped_steps: int = 0
    skipped_spikes: int = 0
    skipped_in_a_row: int = 0
    seconds: float = 0.0
    best_nll: float | None = None
    last_validation: int = 0
    validation_nll: float | None = None


@dataclass
class Clock:
    """Time of the run, continued over interruptions, and of the steps since the last log line [s].

    Attributes:
        before: time of the run's earlier parts.
        started: when this part began.
        in_steps: time in steps since the last log line; validation and saving do not count.
        steps: steps since the last log line.
    """

    before: float
    started: float = field(default_factory=time.monotonic)
    in_steps: float = 0.0
    steps: int = 0

    def total(self) -> float:
        """Time since the run first started, pauses between its parts excluded [s]."""
        return self.before + time.monotonic() - self.started


class Trainer:
    """One rank's part of a run.

    Args:
        run: checked configuration.
        env: this process among the others; the process group is initialised.
        device: where this rank computes.
        resume: continue from the last checkpoint in the run folder; otherwise the folder must hold none.
        heartbeat: hears what this rank is doing.

    Raises:
        SmoeError: corpus, checkpoint or configuration do not fit; on all ranks if on one.
    """

    def __init__(
        self,
        run: RunConfig,
        env: Env,
        device: torch.device,
        *,
        resume: bool = True,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self.run, self.env, self.device = run, env, device
        self.heartbeat = heartbeat or Heartbeat()
        self.smoe, self.train = run.smoe, run.smoe.train
        self.folder = Path(self.train.output_dir)
        self.progress = Progress()
        if self.train.deterministic:
            make_deterministic()
        self._check_folder(resume)
        self.heartbeat.doing("opening the corpus")
        self.corpus = self._open_corpus()
        self.accumulation_steps = run.train_batch_size // env.world_size
        self.heartbeat.doing("building the engine")
        self.engine = self._build_engine()
        self.updates = Updates(self.engine, self.train, sum_over_ranks)
        self.heartbeat.doing("opening the data")
        self.stream = self._open_stream()
        self.validation_batches = self._open_validation()
        self.losses = self._loss_settings()
        self.heartbeat.doing("loading a checkpoint")
        resumed = resume and self._restore()
        if self.train.init_from is not None and not resumed:
            load_initial_weights(self.engine, Path(self.train.init_from), self.corpus.tokenizer.sha256)
        self._write_folder()
        self.report = Reporter(self.folder / "tensorboard", env.rank, self.progress.step)
        modules = self.engine.module.named_modules()
        self.blocks = {name: module for name, module in modules if isinstance(module, StratifiedMoE)}
        names = [name.replace(".layers", "").removesuffix(".ffn") for name in self.blocks]
        self.meter = Meter(names, sum_over_ranks)
        self.balancer = self._new_balancer()
        self.data = StepBatches([], 0, 0, {}, {})
        self.clock = Clock(self.progress.seconds)

    def fit(self, signals: StopSignals | None = None) -> int:
        """Train until the last step, the end of the time or a signal; then validate, save, and return the exit code.

        Args:
            signals: entered before, so that a signal during the start counts; None: signals count from now on.
        """
        self._introduce()
        self.heartbeat.training = True
        with StopSignals() if signals is None else nullcontext(signals) as signals:
            stopped, finished = self._stop_reasons(signals)
            while not (stopped or finished):
                self._step()
                stopped, finished = self._stop_reasons(signals)
                self._after_step(stopped=stopped, finished=finished)
            if finished:
                self._finish()
        self.stream.close()
        self.report.close()
        if not finished:
            self._take_stop_file()
            self.report.say(
                f"stopped at step {self.progress.step} by a signal or the file {stop_file(self.folder).name}; "
                "the same command goes on from there"
            )
            return EXIT_PREEMPTED
        self.report.say(f"done: {self.progress.step} steps in {format_duration(self.clock.total())}, see {self.folder}")
        return 0

    def _step(self) -> None:
        began = time.monotonic()
        self.heartbeat.doing(f"step {self.progress.step + 1}: waiting for data")
        self.data = self.stream.next_step()
        self.progress.step += 1
        self.heartbeat.doing(f"step {self.progress.step}: computing")
        set_learning_rate(self.engine, self._learning_rate())
        self._forward_backward(self.data)
        self._close_step(self.updates.judge())
        self.clock.in_steps += time.monotonic() - began
        self.clock.steps += 1

    def _forward_backward(self, step_batches: StepBatches) -> None:
        scale = token_scale(self.env.world_size, self.accumulation_steps, step_batches.num_tgt_tokens)
        self.engine.train()
        losses = []
        for number, batch in enumerate(step_batches.batches, 1):
            seed_micro_batch(self.train.seed, batch.index)
            micro_step = forward(self.engine, batch, self.losses, self.device, scale)
            self.engine.backward(micro_step.loss)
            losses.append(micro_step.translation.smoothed.detach())
            if number == len(step_batches.batches):
                self.updates.prepare(torch.stack(losses).sum(), step_batches.num_tgt_tokens)
            self.engine.step()
            self.meter.add(micro_step, batch)
            self.balancer.add(micro_step.stats)

    def _close_step(self, skipped: str) -> None:
        """What was not taken moves no bias, enters no mean, and may happen only so often in a row."""
        progress = self.progress
        self.meter.end_step(keep=not skipped)
        if not skipped:
            progress.skipped_in_a_row = 0
            self.balancer.step()
            return
        self.balancer = self._new_balancer()
        progress.skipped_in_a_row += 1
        if step_was_skipped(self.engine):
            progress.skipped_steps += 1
        else:
            progress.skipped_spikes += 1
        self.report.say(f"step {progress.step} skipped: {skipped}")
        self.report.skipped_steps(progress.skipped_steps, progress.skipped_spikes, progress.step)
        self.updates.check_in_a_row(progress.skipped_in_a_row, progress.step)

    def _new_balancer(self) -> BiasBalancer:
        return BiasBalancer(list(self.blocks.values()), sum_over_ranks)

    def _after_step(self, *, stopped: bool, finished: bool) -> None:
        """Log, validate and save where it is time; what a finished run still needs is for ``_finish``."""
        step = self.progress.step
        if stopped or finished or step % self.train.log_every == 0:
            self._log()
        if finished:
            return
        best = step % self.train.validate_every == 0 and self._validate()
        if best or stopped or step % self.train.checkpoint_every == 0:
            self._save(best)

    def _finish(self) -> None:
        """Validate and save the last step, unless a run that ended there before has done so."""
        if self.progress.step and self.progress.last_validation != self.progress.step:
            self._save(self._validate())

    def _log(self) -> None:
        interval = self.meter.take()
        seconds, self.clock.in_steps = self.clock.in_steps, 0.0
        steps, self.clock.steps = self.clock.steps, 0
        self.report.interval(
            interval,
            step=self.progress.step,
            lr=self._learning_rate(),
            norm=gradient_norm(self.engine),
            seconds=seconds,
            eta=self._seconds_left(seconds / steps),
            of=self.train.max_steps if self.train.max_minutes is None else None,
            scale=loss_scale(self.engine) if self.run.precision == "fp16" else None,
        )
        self.report.skipped_steps(self.progress.skipped_steps, self.progress.skipped_spikes, self.progress.step)
        self.report.data(self.data.epochs, self.data.skipped, self.progress.step)

    def _validate(self) -> bool:
        """Validation losses; whether their mean is the lowest so far."""
        self.progress.last_validation = self.progress.step
        if not self.validation_batches:
            return False
        at = f"step {self.progress.step}: validating"
        nll = validation_nll(
            self.engine.module, self.validation_batches, self.device, lambda name: self.heartbeat.doing(f"{at} {name}")
        )
        mean = sum(nll.values()) / len(nll)
        self.progress.validation_nll = mean
        best = self.progress.best_nll is None or mean < self.progress.best_nll
        if best:
            self.progress.best_nll = mean
        self.report.validation(nll, mean, step=self.progress.step, best=best)
        return best

    def _save(self, best: bool) -> None:
        self.heartbeat.doing(f"step {self.progress.step}: saving")
        self.progress.seconds = self.clock.total()
        extra = {
            "progress": vars(self.progress),
            "stream": self.stream.position(),
            "spikes": self.updates.spikes.state(),
        }
        root = checkpoint_root(self.folder)
        save_checkpoint(self.engine, root, self.progress.step, extra, keep_last=self.train.keep_last, best=best)

    def _restore(self) -> bool:
        """Go on from the newest checkpoint; whether there was one."""
        extra = load_checkpoint(self.engine, checkpoint_root(self.folder))
        if extra is None:
            return False
        self.progress = Progress(**extra["progress"])
        self.stream.restore(extra["stream"])
        if "spikes" in extra:  # checkpoints from before there was such a setting have none
            self.updates.spikes.restore(extra["spikes"])
        return True

    def _check_folder(self, resume: bool) -> None:
        """The folder must fit what is asked, as rank 0 sees it."""
        problem = None
        if self.env.rank == 0:
            try:
                if resume:
                    check_continues(self.folder, self.run)
                elif has_checkpoints(self.folder):
                    problem = (
                        f"{checkpoint_root(self.folder)} already holds checkpoints; continue with --resume auto, "
                        "or choose another smoe.train.output_dir"
                    )
            except (SmoeError, OSError) as error:
                problem = str(error)
        agree(problem, CheckpointError, "opening the run folder")

    def _write_folder(self) -> None:
        problem = None
        if self.env.rank == 0:
            try:
                write_run_folder(self.folder, self.run, self.corpus.tokenizer.model_file, self.env.world_size)
            except OSError as error:
                problem = f"{error}; choose another smoe.train.output_dir"
        agree(problem, CheckpointError, "writing the run folder")

    def _open_corpus(self) -> Corpus:
        """What is read of a file is checked when it is first read: a start does not wait for the whole corpus."""
        problem, corpus = None, None
        try:
            corpus = Corpus(Path(self.smoe.data.path), verify=False)
            _ = corpus.tokenizer  # loaded and compared with the manifest here, where all ranks hear of a problem
        except (SmoeError, OSError) as error:
            problem = str(error)
        agree(problem, DataError, "opening the corpus")
        assert corpus is not None
        return corpus

    def _build_engine(self) -> Any:
        model = build_model(
            self.smoe.model,
            self.smoe.moe,
            self.corpus.tokenizer.vocab_size,
            seed=self.train.seed,
            rank=self.env.rank,
            check_finite=False,  # such a step is skipped, by all ranks
        )
        model.activation_checkpointing = self.train.activation_checkpointing
        if self.train.compile:
            compile_dense_parts(model)
        return build_engine(model, finalize_deepspeed(self.run, self.env.world_size, self.device.type))

    def _directions(self) -> tuple[str, ...]:
        chosen = self.smoe.data.directions
        return self.corpus.directions_of("train") if chosen is None else tuple(chosen)

    def _language_ids(self) -> dict[str, int]:
        tokenizer = self.corpus.tokenizer
        return {language: tokenizer.language_id(language) for language in tokenizer.languages}

    def _open_stream(self) -> TrainStream:
        return TrainStream(
            {direction: self.corpus.sentences("train", direction) for direction in self._directions()},
            self._language_ids(),
            self.smoe.data,
            seed=self.train.seed,
            max_positions=self.smoe.model.max_positions,
            micro_batches_per_step=self.run.train_batch_size,
            rank=self.env.rank,
            world_size=self.env.world_size,
            fingerprint=self.corpus.fingerprint,
        )

    def _open_validation(self) -> dict[str, ValidationBatches]:
        """Fixed batches of every trained direction that has validation sentences, read once by all ranks."""
        problem, batches = None, {}
        try:
            for direction in self._directions():
                if len(sentences := self.corpus.sentences("valid", direction)):
                    batches[direction] = ValidationBatches(
                        sentences,
                        self._language_ids(),
                        self.smoe.data,
                        max_positions=self.smoe.model.max_positions,
                        rank=self.env.rank,
                        world_size=self.env.world_size,
                        max_batches=self.train.validate_batches,
                    )
                    batches[direction].check()
        except (SmoeError, OSError) as error:
            problem = str(error)
        agree(problem, DataError, "opening the validation text")
        return batches

    def _loss_settings(self) -> LossSettings:
        over_ranks = self.smoe.moe.load_balancing_batch == "global" and self.env.world_size > 1
        return LossSettings(
            label_smoothing=self.train.label_smoothing,
            moe=self.smoe.moe,
            sum_counts=partial(sum_over_ranks, group=dist.group.WORLD) if over_ranks else None,
            num_ranks=self.env.world_size if over_ranks else 1,
        )

    def _expert_backend(self) -> str:
        """How the experts are computed on this device."""
        block = next(iter(self.blocks.values()))
        dtype = next(block.experts.parameters()).dtype
        backend = block.backend(self.device, dtype)
        return f"{backend} ({self.smoe.moe.expert_backend}), {dtype} on {self.device.type}".replace("torch.", "")

    def _learning_rate(self) -> float:
        return inverse_sqrt_lr(self.progress.step, self.run.peak_lr, self.train.warmup_steps, self.train.warmup_init_lr)

    def _stop_reasons(self, signals: StopSignals) -> tuple[bool, bool]:
        """Whether any rank was told to stop, and whether steps or time are used up; the same answer on all ranks."""
        limit = self.train.max_minutes
        time_up = limit is not None and self.clock.total() >= 60 * limit
        last = self.progress.step >= self.train.max_steps
        self.heartbeat.doing(f"step {self.progress.step + 1}: waiting for data")
        problem = None if last else self._data_problem()
        self.heartbeat.doing(f"step {self.progress.step}: agreeing whether to go on")
        told = signals.received is not None or (self.env.rank == 0 and stop_file(self.folder).exists())
        flags = [told, time_up, problem is not None]
        stopped, time_up, damaged = any_rank(flags, self.device)
        if damaged:
            agree(problem, DataError, "reading the corpus")
        return stopped, time_up or last

    def _data_problem(self) -> str | None:
        """Why the next step cannot be read, if so; waits for it. One rank alone must not stop before a collective."""
        began = time.monotonic()
        try:
            self.stream.wait()
        except (SmoeError, OSError) as error:
            return str(error)
        self.clock.in_steps += time.monotonic() - began
        return None

    def _take_stop_file(self) -> None:
        """The file has done its work; the next start is to train. Its new name tells job scripts why this one ended."""
        file = stop_file(self.folder)
        if self.env.rank == 0 and file.exists():
            file.replace(self.folder / STOPPED_FILE)

    def _seconds_left(self, seconds_per_step: float) -> float:
        by_steps = (self.train.max_steps - self.progress.step) * seconds_per_step
        if self.train.max_minutes is None:
            return by_steps
        return min(by_steps, 60 * self.train.max_minutes - self.clock.total())

    def _introduce(self) -> None:
        module, env = self.engine.module, self.env
        local = sum(p.numel() for p in module.parameters())
        fresh = "from the beginning" if self.train.init_from is None else f"with the weights of {self.train.init_from}"
        started = f"continuing after step {self.progress.step}" if self.progress.step else fresh
        self.report.say(
            f"training {self.folder} on {env.world_size} rank(s) ({env.launcher}), {self.run.precision}, "
            f"ZeRO {self.run.zero_stage}, ep_size {self.smoe.moe.ep_size}, strata {self.smoe.moe.strata}: "
            f"{local:,} parameters on rank 0, {len(self._directions())} directions, {started}"
        )
        for warning in placement_warnings(self.run):
            self.report.say(f"warning: {warning}")
        if self.blocks:
            self.report.say(f"experts: {self._expert_backend()}")
        self.report.text("config", json.dumps(self.run.to_dict(), indent=2, ensure_ascii=False))
        too_long = sum(batches.skipped for batches in self.validation_batches.values())
        if too_long:
            self.report.say(f"validation leaves out {too_long} sentence pairs beyond smoe.model.max_positions")
