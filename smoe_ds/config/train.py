"""``smoe.train``: length, schedule, logging and checkpoints of a run."""

from __future__ import annotations

from pydantic import Field

from smoe_ds.config.section import Section


class TrainConfig(Section):
    """The run. The peak learning rate is DeepSpeed's ``optimizer.params.lr``."""

    output_dir: str = Field(description="Run folder: configuration, TensorBoard log, checkpoints.")
    seed: int = Field(default=1, ge=0, description="Seed of initial weights, data order and dropout.")
    init_from: str | None = Field(
        default=None,
        description="Start with the weights of this run folder (its best checkpoint), checkpoint or exported model. "
        "Optimizer, schedule and data start fresh. A run that has checkpoints of its own continues from those.",
    )
    max_steps: int = Field(default=100_000, gt=0, description="Optimizer steps after which the run ends.")
    max_minutes: float | None = Field(
        default=None, gt=0, description="If set, training also ends after this many minutes [min]."
    )
    warmup_steps: int = Field(
        default=8000, ge=0, description="Steps of linear warm-up. Then the learning rate decays as 1/sqrt(step)."
    )
    warmup_init_lr: float = Field(default=1e-7, ge=0, description="Learning rate at step 0 of the warm-up.")
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
