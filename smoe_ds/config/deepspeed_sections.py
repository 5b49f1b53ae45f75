"""The typed part of DeepSpeed's JSON that training here uses.

A field whose default is None is left to DeepSpeed when it is not set; one with another default is always written
out, because DeepSpeed's own default is surprising (gradient clipping at 1.0, weight decay by optimizer class) or
because the paper's recipe is the better one. What is not a field here is listed with its reason in
:mod:`smoe_ds.config.deepspeed_keys`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from smoe_ds.config.section import Section


def _whole(value: Any) -> Any:
    """``5e7`` is a float to JSON; DeepSpeed's sizes are customarily written so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]


class AdamParams(Section):
    """``optimizer.params``. Defaults are the paper's."""

    lr: float = Field(gt=0, description="Peak learning rate; warm-up and decay are in smoe.train.")
    betas: list[float] = Field(
        default=[0.9, 0.98],
        min_length=2,
        max_length=2,
        description="Decay rates of Adam's two moments (paper: 0.9, 0.98).",
    )
    eps: float = Field(default=1e-6, gt=0, description="Added to the root of the second moment (paper: 1e-6).")
    weight_decay: float = Field(
        default=0.0, ge=0, description="Weight decay. DeepSpeed's own default is 0.0, or 0.01 with torch_adam."
    )
    adam_w_mode: bool | None = Field(
        default=None,
        description="Decoupled weight decay. Default: true for AdamW, false for Adam (DeepSpeed: true for both).",
    )
    torch_adam: bool | None = Field(
        default=None,
        description="Use PyTorch's Adam instead of DeepSpeed's compiled one. Default on a CPU: true.",
    )

    def rules(self) -> Iterator[tuple[str, str]]:
        if any(not 0 <= beta < 1 for beta in self.betas):
            yield "betas", f"{self.betas} must lie between 0 and 1; the paper uses [0.9, 0.98]"


class OptimizerSection(Section):
    """``optimizer``."""

    type: Literal["Adam", "AdamW"] = Field(
        description="Adam or AdamW. There is no other, because checkpoints hold Adam's two moments."
    )
    params: AdamParams = Field(description="At least lr, the peak learning rate.")

    def rules(self) -> Iterator[tuple[str, str]]:
        if self.type == "AdamW" and self.params.adam_w_mode is False:
            yield "params.adam_w_mode", 'DeepSpeed ignores false for "AdamW"; write "type": "Adam" or leave it out'


class OffloadOptimizer(Section):
    """``zero_optimization.offload_optimizer``."""

    device: Literal["none", "cpu"] = Field(
        default="none",
        description="cpu: keep Adam's state on the host and update there. nvme needs ZeRO stage 3, which is refused.",
    )
    pin_memory: bool = Field(
        default=True, description="Use page-locked host memory. Set it to false if `ulimit -l` is low."
    )


class ZeroSection(Section):
    """``zero_optimization``."""

    stage: Literal[0, 1, 2, 3] = Field(
        default=0, description="0: off; 1: split optimizer state over the ranks; 2: split gradients too."
    )
    contiguous_gradients: bool | None = Field(
        default=None, description="Copy gradients into one buffer as they appear."
    )
    reduce_scatter: bool | None = Field(default=None, description="Send each gradient only to the rank that owns it.")
    reduce_bucket_size: Whole | None = Field(
        default=None, gt=0, description="Elements reduced at a time, which is also the size of the buffer."
    )
    allgather_partitions: bool | None = Field(
        default=None, description="Gather updated weights by all-gather instead of broadcasts."
    )
    allgather_bucket_size: Whole | None = Field(
        default=None, gt=0, description="Elements of updated weights gathered at a time."
    )
    overlap_comm: bool | None = Field(default=None, description="Reduce gradients while the backward pass still runs.")
    round_robin_gradients: bool | None = Field(
        default=None, description="Let ranks copy different gradients to the host at the same time."
    )
    offload_optimizer: OffloadOptimizer | None = Field(default=None, description="ZeRO-Offload of the optimizer.")

    def rules(self) -> Iterator[tuple[str, str]]:
        if self.allgather_bucket_size is not None and self.allgather_bucket_size % 2:
            yield "allgather_bucket_size", f"{self.allgather_bucket_size} is odd, and DeepSpeed takes even sizes alone"


class Fp16Section(Section):
    """``fp16``."""

    enabled: bool = Field(default=False, description="Train in fp16 with loss scaling (V100).")
    loss_scale: float | None = Field(default=None, ge=0, description="Fixed loss scale; 0: dynamic.")
    initial_scale_power: Whole | None = Field(
        default=None, ge=0, le=62, description="The dynamic loss scale starts at 2 to this power."
    )
    loss_scale_window: Whole | None = Field(
        default=None, gt=0, description="Steps without overflow after which the scale doubles."
    )
    hysteresis: Whole | None = Field(default=None, gt=0, description="Overflows tolerated before the scale is halved.")
    consecutive_hysteresis: bool | None = Field(
        default=None, description="Restore that tolerance after every step without overflow."
    )
    min_loss_scale: Whole | None = Field(default=None, gt=0, description="Lowest dynamic loss scale.")


class Bf16Section(Section):
    """``bf16``."""

    enabled: bool = Field(default=False, description="Train in bf16 (A100, H100, H200 and later).")
    check_grad_overflow: bool = Field(default=True, description="Skip the update when a gradient is not finite.")


class FlopsProfiler(Section):
    """``flops_profiler``."""

    enabled: bool = Field(default=False, description="Profile one step.")
    recompute_fwd_factor: float | None = Field(
        default=None, ge=0, description="Share of the forward pass that is computed again."
    )
    profile_step: Whole | None = Field(default=None, gt=0, description="The step to profile.")
    module_depth: Whole | None = Field(default=None, description="Depth of the printed module tree; -1: all.")
    top_modules: Whole | None = Field(default=None, gt=0, description="Modules to list at each depth.")
    detailed: bool | None = Field(default=None, description="Print the whole module tree.")
    output_file: str | None = Field(default=None, description="File for the profile instead of the console.")


class CommsLogger(Section):
    """``comms_logger``."""

    enabled: bool = Field(default=False, description="Record every collective.")
    verbose: bool | None = Field(default=None, description="Print each collective as it runs.")
    prof_all: bool | None = Field(default=None, description="Record all kinds of operation.")
    prof_ops: list[str] | None = Field(default=None, description="Operations to record if prof_all is false.")
    debug: bool | None = Field(default=None, description="Record the calling function too.")


class ThroughputTimer(Section):
    """``timers.throughput``."""

    enabled: bool = Field(default=True, description="Measure samples per second.")
    synchronized: bool | None = Field(default=None, description="Wait for the device before each reading.")


class Timers(Section):
    """``timers``."""

    throughput: ThroughputTimer | None = Field(default=None, description="DeepSpeed's throughput timer.")


class CsvMonitor(Section):
    """``csv_monitor``."""

    enabled: bool = Field(
        default=False, description="Write DeepSpeed's own scalars (learning rate, loss scale, timers) as CSV."
    )
    output_path: str | None = Field(default=None, description="Folder for the CSV files.")
    job_name: str | None = Field(default=None, description="Folder inside output_path.")


class Wandb(Section):
    """``wandb``."""

    enabled: bool = Field(default=False, description="Send DeepSpeed's own scalars to Weights & Biases.")
    group: str | None = Field(default=None, description="Group of runs.")
    team: str | None = Field(default=None, description="Team the run belongs to.")
    project: str | None = Field(default=None, description="Project the run belongs to.")


class DeepSpeedSections(Section):
    """Top level of a run file, without ``"smoe"`` and ``"extends"``."""

    train_batch_size: Whole = Field(
        gt=0,
        description="Micro-batches per optimizer step, over all ranks. Each has at most smoe.data.max_tokens tokens.",
    )
    train_micro_batch_size_per_gpu: Literal[1] = Field(
        default=1, description="Always 1: a rank runs one micro-batch at a time."
    )
    gradient_clipping: float = Field(
        default=0.0, ge=0, description="Largest gradient norm. 0: no clipping (paper). DeepSpeed's own default is 1.0."
    )
    optimizer: OptimizerSection = Field(description='E.g. {"type": "Adam", "params": {"lr": 8e-4}}.')
    zero_optimization: ZeroSection = Field(default_factory=lambda: ZeroSection(), description="ZeRO.")
    fp16: Fp16Section = Field(default_factory=lambda: Fp16Section(), description="Half precision.")
    bf16: Bf16Section = Field(default_factory=lambda: Bf16Section(), description="Brain floating point.")
    communication_data_type: Literal["fp16", "bf16", "fp32"] | None = Field(
        default=None, description="Precision in which gradients are sent. Default: that of the model."
    )
    steps_per_print: Whole | None = Field(
        default=None, gt=0, description="Steps between DeepSpeed's own progress lines. Default: none."
    )
    wall_clock_breakdown: bool | None = Field(
        default=None, description="Measure forward pass, backward pass and update."
    )
    memory_breakdown: bool | None = Field(default=None, description="Print memory use at DeepSpeed's milestones.")
    dump_state: bool | None = Field(default=None, description="Print the engine's state after start-up.")
    log_level: Literal["debug", "info", "warning", "error", "critical"] | None = Field(
        default=None, description="Level of DeepSpeed's logger."
    )
    disable_python_gc: bool | None = Field(default=None, description="Collect Python's garbage between steps only.")
    flops_profiler: FlopsProfiler | None = Field(default=None, description="DeepSpeed's FLOPs profiler.")
    comms_logger: CommsLogger | None = Field(default=None, description="DeepSpeed's log of collectives.")
    timers: Timers | None = Field(default=None, description="DeepSpeed's timers.")
    csv_monitor: CsvMonitor | None = Field(default=None, description="DeepSpeed's CSV monitor.")
    wandb: Wandb | None = Field(default=None, description="DeepSpeed's Weights & Biases monitor.")

    def resolved(self) -> dict[str, Any]:
        """The sections as DeepSpeed reads them, with everything that is always written out."""
        tree = self.model_dump(mode="json", exclude_none=True)
        params = {"adam_w_mode": self.optimizer.type == "AdamW", **tree["optimizer"]["params"]}
        tree["optimizer"]["params"] = {name: params[name] for name in AdamParams.model_fields if name in params}
        return tree
