"""A training run from its configuration to its last checkpoint."""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import cast

import torch

from smoe_ds.checkpoints.vocabulary import VOCABULARY
from smoe_ds.config.checks import check_languages
from smoe_ds.config.finalize import finalize_deepspeed
from smoe_ds.config.run import RunConfig
from smoe_ds.data.stream import StepBatches
from smoe_ds.engine.adapter import build_model
from smoe_ds.engine.build import build_engine, gradient_norm, loss_scale, set_learning_rate, step_was_skipped
from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint
from smoe_ds.engine.fragments import rewrite_parameters
from smoe_ds.engine.protocol import Engine
from smoe_ds.errors import ConfigError, DataError, SmoeError
from smoe_ds.model.compilation import compile_dense_parts
from smoe_ds.model.freezing import check_freeze, freeze, zero_for_good
from smoe_ds.model.parameter_kinds import lr_factor
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe import exchange
from smoe_ds.moe.adaptive import Adaptation
from smoe_ds.moe.expert_parallel import sum_over_ranks
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.parallel.agreement import agree
from smoe_ds.parallel.env import Env
from smoe_ds.run.folder import RunFolder
from smoe_ds.train.coverage import Coverage
from smoe_ds.train.duration import format_duration
from smoe_ds.train.log_events import Event, IntervalDone, LeftOut, Notice, SkippedSteps, Validated
from smoe_ds.train.log_introduction import introduction
from smoe_ds.train.memory import peak_memory
from smoe_ds.train.meters import Meter
from smoe_ds.train.micro_step import forward, loss_settings, seed_micro_batch, token_scale
from smoe_ds.train.open_data import (
    check_language_capacity,
    open_corpus,
    open_stream,
    open_translations,
    open_validation,
    trained_directions,
)
from smoe_ds.train.open_folder import check_folder, write_folder
from smoe_ds.train.phases import PhaseClock
from smoe_ds.train.progress import Clock, Progress
from smoe_ds.train.repeatable import make_deterministic
from smoe_ds.train.schedule import cooldown_factor, inverse_sqrt_lr
from smoe_ds.train.stopping import EXIT_PREEMPTED, StopSignals, any_rank
from smoe_ds.train.updates import Updates
from smoe_ds.train.validation import validate
from smoe_ds.watch.heartbeat import Heartbeat
from smoe_ds.weights.start_from import check_same_function, load_initial_weights


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
        self.folder = RunFolder(Path(self.train.output_dir))
        self.progress = Progress()
        if self.train.deterministic:
            make_deterministic()
        self.frozen = check_freeze(run)
        check_folder(self.folder, run, env.rank, resume=resume)
        self.heartbeat.doing("opening the corpus")
        self.corpus = open_corpus(Path(self.smoe.data.path))
        check_languages(run, max(self.corpus.tokenizer.language_ids.values(), default=0))
        check_language_capacity(self.smoe.model, self.corpus.tokenizer)
        self.accumulation_steps = run.train_batch_size // env.world_size
        self.heartbeat.doing("building the engine")
        self.engine = self._build_engine()
        self.updates = Updates(self.engine, self.train, sum_over_ranks)
        self.heartbeat.doing("opening the data")
        self.stream = open_stream(run, self.corpus, env)
        self.validation_batches = open_validation(run, self.corpus, env)
        self.coverage = Coverage.of(self.validation_batches)
        self.translations = open_translations(run, self.corpus, self.validation_batches, env, device)
        self.losses = loss_settings(self.smoe, env.world_size)
        self.heartbeat.doing("loading a checkpoint")
        resumed = resume and self._restore()
        if self.train.init_from is not None and not resumed:
            check_same_function(Path(self.train.init_from), self.smoe)
            load_initial_weights(self.engine, Path(self.train.init_from), self.corpus.tokenizer.sha256)
        if self.frozen and not resumed:
            agree(zero_for_good(self.engine.module), ConfigError, "starting")
        self.listeners = write_folder(self.folder, run, self.corpus.tokenizer.model_file, self.progress, env)
        modules = self.engine.module.named_modules()
        self.blocks = {name: module for name, module in modules if isinstance(module, StratifiedMoE)}
        names = [name.replace(".layers", "").removesuffix(".ffn") for name in self.blocks]
        self.sides = [name.split(".")[0] for name in names]
        placements = [block.placement for block in self.blocks.values()]
        self.meter = Meter(names, sum_over_ranks, trained_directions(run, self.corpus), placements)
        self.phases = PhaseClock(device)
        exchange.wait_timer = self.phases.exchange
        self.adaptation = self._adaptation()
        self.data = StepBatches([], 0, 0, {}, {})
        self.left_out = LeftOut()
        self.clock = Clock(self.progress.seconds)

    def fit(self, signals: StopSignals | None = None) -> int:
        """Trains until the last step, the end of the time or a signal; then validates, saves, and gives the exit code.

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
        if not finished:
            self._take_stop_file()
        step, seconds, folder = self.progress.step, self.clock.total(), self.folder
        done = f"done: {step} steps in {format_duration(seconds)}, see {folder.path}"
        stop = f"stopped at step {step} by a signal or the file {folder.stop.name}; the same command goes on from there"
        self._tell(Notice(step=step, text=done if finished else stop))
        for listener in self.listeners:
            listener.close()
        return 0 if finished else EXIT_PREEMPTED

    def _step(self) -> None:
        began = time.monotonic()
        self.heartbeat.doing(f"step {self.progress.step + 1}: waiting for data")
        with self.phases.phase("data"):
            self.data = self.stream.next_step()
        self.progress.step += 1
        self.heartbeat.doing(f"step {self.progress.step}: computing")
        set_learning_rate(self.engine, self._learning_rate())
        cast(Transformer, self.engine.module).progress = self.progress.step / self.train.max_steps
        self._forward_backward(self.data)
        with self.phases.phase("optimizer"):
            skipped = self.updates.judge()
        self._close_step(skipped)
        self._count_time(began, self.data.num_src_tokens + self.data.num_tgt_tokens)
        self.clock.steps += 1

    def _count_time(self, began: float, tokens: int = 0) -> None:
        seconds = time.monotonic() - began
        self.clock.in_steps += seconds
        self.progress.spent(seconds, tokens)

    def _forward_backward(self, step_batches: StepBatches) -> None:
        scale = token_scale(self.env.world_size, self.accumulation_steps, step_batches.num_tgt_tokens)
        self.engine.train()
        losses = []
        for number, batch in enumerate(step_batches.batches, 1):
            seed_micro_batch(self.train.seed, batch.index)
            with self.phases.phase("forward"):
                micro_step = forward(self.engine, batch, self.losses, self.device, scale)
            with self.phases.phase("backward"):
                self.engine.backward(micro_step.loss)
            losses.append(micro_step.translation.smoothed.detach())
            if number == len(step_batches.batches):
                self.updates.prepare(torch.stack(losses).sum(), step_batches.num_tgt_tokens)
            with self.phases.phase("optimizer"):
                self.engine.step()
            self.meter.add(micro_step, batch)
            self.adaptation.add(micro_step.stats)

    def _close_step(self, skipped: str) -> None:
        """What was not taken adapts nothing, enters no mean, and may happen only so often in a row."""
        progress = self.progress
        self.meter.end_step(keep=not skipped)
        progress.count(skipped=bool(skipped), not_finite=step_was_skipped(self.engine))
        if not skipped:
            self.adaptation.step()
            return
        self.adaptation.discard()
        self._tell(self._skipped_steps(skipped))
        self.updates.check_in_a_row(progress.skipped_in_a_row, progress.step)

    def _adaptation(self) -> Adaptation:
        parts = [block.adaptive() for block in self.blocks.values()]
        return Adaptation(parts, sum_over_ranks, lambda rewrites: rewrite_parameters(self.engine, rewrites))

    def _learning_rate(self) -> float:
        step, train = self.progress.step, self.train
        rate = inverse_sqrt_lr(step, self.run.peak_lr, train.warmup_steps, train.warmup_init_lr)
        return rate * cooldown_factor(step, train.max_steps, train.cooldown_steps)

    def _after_step(self, *, stopped: bool, finished: bool) -> None:
        """Logs, validates and saves where it is time; what a finished run still needs is for ``_finish``."""
        step = self.progress.step
        if stopped or finished or step % self.train.log_every == 0:
            self._log()
        if finished:
            return
        best = step % self.train.validate_every == 0 and self._validate()
        if best or stopped or step % self.train.checkpoint_every == 0:
            self._save(best)

    def _finish(self) -> None:
        """Validates and saves the last step, unless a run that ended there before has done so."""
        if self.progress.step and self.progress.last_validation != self.progress.step:
            self._save(self._validate())

    def _validate(self) -> bool:
        """Validation losses; whether their mean is the lowest so far."""
        step = self.progress.step
        self.progress.last_validation = step
        if not self.validation_batches:
            return False
        found = validate(
            self.engine.module,
            self.validation_batches,
            self.device,
            self.sides,
            lambda name: self.heartbeat.doing(f"step {step}: validating {name}"),
        )
        self.heartbeat.doing(f"step {step}: translating validation text")
        translated = self.translations.translate(cast(Transformer, self.engine.module)) if self.translations else {}
        mean = sum(found.nll.values()) / len(found.nll)
        best = self.progress.validated(mean)
        event = Validated(
            step=step,
            nll=found.nll,
            mean=mean,
            best=best,
            coverage=self.coverage,
            requested_capacity=found.requested_capacity,
            translated=translated,
            tokens=self.progress.tokens,
            step_seconds=self.progress.step_seconds,
        )
        self._tell(event)
        return best

    def _stop_reasons(self, signals: StopSignals) -> tuple[bool, bool]:
        """Whether any rank was told to stop, and whether steps or time are used up; the same answer on all ranks."""
        limit = self.train.max_minutes
        time_up = limit is not None and self.clock.total() >= 60 * limit
        last = self.progress.step >= self.train.max_steps
        self.heartbeat.doing(f"step {self.progress.step + 1}: waiting for data")
        problem = None if last else self._data_problem()
        self.heartbeat.doing(f"step {self.progress.step}: agreeing whether to go on")
        told = signals.received is not None or (self.env.rank == 0 and self.folder.stop.exists())
        flags = [told, time_up, problem is not None]
        stopped, time_up, damaged = any_rank(flags, self.device)
        if damaged:
            agree(problem, DataError, "reading the corpus")
        return stopped, time_up or last

    def _data_problem(self) -> str | None:
        """Why the next step cannot be read, if so; waits for it. One rank alone must not stop before a collective."""
        began = time.monotonic()
        try:
            with self.phases.phase("data"):
                self.stream.wait()
        except (SmoeError, OSError) as error:
            return str(error)
        self._count_time(began)
        return None

    def _take_stop_file(self) -> None:
        """The file has done its work; the next start is to train. Its new name tells job scripts why this one ended."""
        if self.env.rank == 0 and self.folder.stop.exists():
            self.folder.stop.replace(self.folder.stopped)

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener.hear(event)

    def _introduce(self) -> None:
        event = introduction(
            self.run,
            self.env,
            self.engine.module,
            self.device,
            step=self.progress.step,
            directions=len(trained_directions(self.run, self.corpus)),
            coverage=self.coverage,
        )
        self._tell(event)

    def _log(self) -> None:
        step = self.progress.step
        seconds, steps = self.clock.take_interval()
        event = IntervalDone(
            step=step,
            means=self.meter.take(),
            lr=self._learning_rate(),
            norm=gradient_norm(self.engine),
            seconds=seconds,
            steps=steps,
            eta=self.clock.left(self.train.max_steps - step, seconds / steps, self.train.max_minutes),
            last_step=self.train.max_steps if self.train.max_minutes is None else None,
            loss_scale=loss_scale(self.engine) if self.run.precision == "fp16" else None,
            skipped=self._skipped_steps(),
            epochs=self.data.epochs,
            left_out=self.data.skipped,
            phases=self.phases.take(),
            memory=peak_memory(self.device),
        )
        for each in (event, *self.left_out.notices(event.left_out, step)):
            self._tell(each)

    def _skipped_steps(self, why: str = "") -> SkippedSteps:
        progress = self.progress
        return SkippedSteps(
            step=progress.step, not_finite=progress.skipped_steps, spikes=progress.skipped_spikes, why=why
        )

    def _build_engine(self) -> Engine:
        model = build_model(
            self.smoe.model,
            self.smoe.moe,
            self.corpus.tokenizer.vocab_size,
            seed=self.train.seed,
            rank=self.env.rank,
            check_finite=False,  # such a step is skipped, by all ranks
        )
        freeze(model, self.frozen)
        model.activation_checkpointing = self.train.activation_checkpointing
        if self.train.compile:
            compile_dense_parts(model)
        config = finalize_deepspeed(self.run, self.env.world_size, self.device.type)
        return build_engine(model, config, partial(lr_factor, train=self.train))

    def _save(self, best: bool) -> None:
        self.heartbeat.doing(f"step {self.progress.step}: saving")
        self.progress.seconds = self.clock.total()
        extra = {
            VOCABULARY: self.corpus.tokenizer.sha256,
            "progress": vars(self.progress),
            "stream": self.stream.position(),
            "spikes": self.updates.spikes.state(),
        }
        root = self.folder.checkpoints
        save_checkpoint(self.engine, root, self.progress.step, extra, keep_last=self.train.keep_last, best=best)

    def _restore(self) -> bool:
        """Goes on from the newest checkpoint; whether there was one."""
        extra = load_checkpoint(self.engine, self.folder.checkpoints)
        if extra is None:
            return False
        self.progress = Progress.restored(extra["progress"])
        self.stream.restore(extra["stream"])
        if "spikes" in extra:  # checkpoints from before there was such a setting have none
            self.updates.spikes.restore(extra["spikes"])
        return True
