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
        description="Start with the weights of this run folder (its best checkpoint), checkpoint or exported model "
        "instead of fresh ones; optimizer, schedule and data begin anew. A run that goes on takes its own checkpoint.",
    )
    max_steps: int = Field(default=100_000, gt=0, description="Optimizer steps after which the run ends.")
    max_minutes: float | None = Field(
        default=None, gt=0, description="If set, training also ends after so many minutes [min]."
    )
    warmup_steps: int = Field(
        default=8000, ge=0, description="Steps of linear warm-up; then inverse square root decay."
    )
    warmup_init_lr: float = Field(default=1e-7, ge=0, description="Learning rate at step 0 of the warm-up.")
    label_smoothing: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the target's probability that is spread evenly over the vocabulary.",
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="Keep only each layer's input and compute the layer again in the backward pass: less memory, a "
        "third more time, the same result.",
    )
    compile: bool = Field(
        default=False,
        description="Compile attention and dense feed-forward networks with torch.compile; the routing stays eager.",
    )
    deterministic: bool = Field(
        default=False,
        description="Take repeatable kernels only. Without it runs on GPUs differ by rounding: the backward pass of "
        "attention adds in no fixed order there. Costs some speed; on a CPU runs are repeatable anyway.",
    )
    log_every: int = Field(default=100, gt=0, description="Steps between console and TensorBoard lines.")
    validate_every: int = Field(default=2000, gt=0, description="Steps between validations; one more at the end.")
    validate_batches: int = Field(default=20, gt=0, description="Most micro-batches per direction in one validation.")
    checkpoint_every: int = Field(default=2000, gt=0, description="Steps between checkpoints; one more at the end.")
    keep_last: int = Field(
        default=2, gt=0, description="Newest checkpoints kept; the best by validation loss is kept besides."
    )
    max_skipped_in_a_row: int = Field(
        default=50,
        gt=0,
        description="Steps in a row that may be skipped, for a gradient that is not finite or a spike, before the run "
        "ends with an error. The loss scale of fp16 finds its size by skipping some.",
    )
    skip_spikes_above: float | None = Field(
        default=None,
        gt=1,
        description="If set, a step whose loss or gradient norm exceeds this factor of its running median is skipped.",
    )
    spike_window: int = Field(
        default=100, gt=1, description="Steps taken that the running median is over; half of them must have been seen."
    )
    death_deadline: float = Field(
        default=60,
        gt=0,
        description="Time after the last sign of life of a dying rank within which all processes of the run end [s].",
    )
    stall_timeout: float = Field(
        default=1800,
        gt=0,
        description="Longest that a rank may be at one thing or ranks may wait for each other, the start included [s].",
    )
