"""``smoe.train``: length, schedule, logging and checkpoints of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from smoe_ds.config.section import Section


class TrainConfig(Section):
    """The run. The peak learning rate is DeepSpeed's ``optimizer.params.lr``."""

    output_dir: str = Field(
        description="Run folder: configuration, TensorBoard log, checkpoints. A relative path starts in the folder you "
        "are in."
    )
    seed: int = Field(default=1, ge=0, description="Seed of initial weights, data order and dropout.")
    init_from: str | None = Field(
        default=None,
        description="Start with the weights of this run folder (its best checkpoint), checkpoint or exported model. "
        "It must be a model of the same settings; those of MoE blocks may be others, of which the run warns. "
        "Optimizer, schedule and data start fresh. A run that has checkpoints of its own continues from those.",
    )
    freeze: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[],
        description="Parameters that stay as they are: names, modules or patterns, e.g. embedding, encoder.*, "
        "*attention*. They get no gradient and no optimizer state. In half precision the model computes with them "
        "rounded, and checkpoints have them as they were loaded, for which each rank keeps them in fp32 on the host. "
        "A matrix that is 0 when a run starts is refused.",
    )
    max_steps: int = Field(default=100_000, gt=0, description="Optimizer steps after which the run ends.")
    max_minutes: float | None = Field(
        default=None,
        gt=0,
        description="If set, training also ends after this many minutes, all starts of the run together [min].",
    )
    warmup_steps: int = Field(
        default=8000, ge=0, description="Steps of linear warm-up. Then the learning rate decays as 1/sqrt(step)."
    )
    warmup_init_lr: float = Field(default=1e-7, ge=0, description="Learning rate at step 0 of the warm-up.")
    cooldown_steps: int = Field(
        default=0,
        ge=0,
        description="The last steps before max_steps: over them the learning rate goes down to 0 in a straight line, "
        "on top of its decay, so that weights settle. A run that is prolonged afterwards has its former rate again.",
    )
    expert_lr_factor: float = Field(
        default=1.0,
        gt=0,
        description="What the learning rate is multiplied by for the routed experts. A shared expert, and what all "
        "experts of a block have in common, keep the rate itself, which is the one in the log.",
    )
    gate_lr_factor: float = Field(
        default=1.0,
        gt=0,
        description="What the learning rate is multiplied by for the gates of routers, of a shared expert and of "
        "language_capacity, and for what else a router learns. Like expert_lr_factor it also scales decoupled weight "
        "decay.",
    )
    label_smoothing: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the target probability that is spread evenly over the vocabulary.",
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="Keep only the input of each layer and compute the layer again in the backward pass: less memory, "
        "a third more time, the same result.",
    )
    compile: bool = Field(
        default=False,
        description="Compile attention and dense feed-forward networks with torch.compile; the routing stays eager.",
    )
    deterministic: bool = Field(
        default=False,
        description="Use repeatable kernels only. Without it, runs on GPUs differ by rounding, because the backward "
        "pass of attention adds in no fixed order. Costs some speed. On a CPU, runs are repeatable anyway.",
    )
    log_every: int = Field(default=100, gt=0, description="Steps between lines in the log and points in TensorBoard.")
    validate_every: int = Field(
        default=2000, gt=0, description="Steps between validations. There is one more at the end."
    )
    validate_batches: int = Field(
        default=20, gt=0, description="Micro-batches per direction in one validation, at most."
    )
    validate_bleu: int = Field(
        default=0,
        ge=0,
        description="Above 0: each validation also translates this many sentences per direction, at most those of one "
        "micro-batch, greedily. Their BLEU and chrF++ are logged, and TensorBoard shows some of the translations.",
    )
    checkpoint_every: int = Field(
        default=2000, gt=0, description="Steps between checkpoints. There is one more at the end."
    )
    keep_last: int = Field(
        default=2, gt=0, description="Newest checkpoints to keep. The best by validation loss is also kept."
    )
    max_skipped_in_a_row: int = Field(
        default=50,
        gt=0,
        description="Steps in a row that may be skipped, because of NaN, inf or a spike, before the run ends with an "
        "error. With fp16 some skips are normal: the loss scale finds its size that way.",
    )
    skip_spikes_above: float | None = Field(
        default=None,
        gt=1,
        description="If set, skip a step whose loss or gradient norm is more than this many times its running median.",
    )
    spike_window: int = Field(
        default=100,
        gt=1,
        description="Steps in the running median. Spikes are skipped once half of them have been seen.",
    )
    death_deadline: float = Field(
        default=60,
        gt=0,
        description="If one rank dies, all others stop within this time after its last sign of life [s].",
    )
    stall_timeout: float = Field(
        default=1800,
        gt=0,
        description="Longest time without progress: a rank at one piece of work, or ranks that wait for each other, "
        "the start included. Then the run stops and names the rank [s].",
    )

    def rules(self) -> Iterator[tuple[str, str]]:
        if self.cooldown_steps > self.max_steps:
            yield "cooldown_steps", f"{self.cooldown_steps} is above max_steps, {self.max_steps}; lower it"
