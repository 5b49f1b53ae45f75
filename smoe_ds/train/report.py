"""Where a run tells what it does: the console and TensorBoard, on rank 0 only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.train.meters import Interval

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def format_duration(seconds: float) -> str:
    """``1d02h``, ``2h05m``, ``5m03s`` or ``7s``."""
    whole = max(round(seconds), 0)
    for size, unit, next_size, next_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // next_size:02d}{next_unit}"
    return f"{whole}s"


class Reporter:
    """Console lines and TensorBoard scalars; does nothing on other ranks than 0.

    Args:
        folder: TensorBoard folder.
        rank: global rank.
        first_step: steps taken before; what an interrupted run logged beyond them is hidden by TensorBoard.
    """

    def __init__(self, folder: Path, rank: int, first_step: int) -> None:
        self._writer: SummaryWriter | None = None
        self._skipped = 0
        self.active = rank == 0
        if self.active:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)

    def say(self, text: str) -> None:
        """A line on the console."""
        if self.active:
            print(text, flush=True)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """TensorBoard scalars."""
        if self._writer is not None:
            for tag, value in values.items():
                self._writer.add_scalar(tag, value, step)

    def text(self, tag: str, value: str) -> None:
        """A TensorBoard text, shown as it is."""
        if self._writer is not None:
            self._writer.add_text(tag, "    " + value.replace("\n", "\n    "), 0)

    def interval(
        self,
        interval: Interval,
        *,
        step: int,
        lr: float,
        norm: float,
        seconds: float,
        eta: float,
        of: int | None,
        scale: float | None,
    ) -> None:
        """Log a training interval.

        Args:
            interval: means over the interval.
            step: last step of it.
            lr: learning rate of that step.
            norm: gradient norm of that step.
            seconds: time spent in the interval's steps [s].
            eta: expected time to the end of the run [s].
            of: last step of the run; None where its time decides.
            scale: loss scale; None without fp16.
        """
        speed = interval.tokens / max(seconds, 1e-9)
        scalars = {
            "train/loss": interval.loss,
            "train/nll": interval.nll,
            "train/learning_rate": lr,
            "train/gradient_norm": norm,
            "train/tokens_per_second": speed,
            **({} if scale is None else {"train/loss_scale": scale}),
            **_moe_scalars(interval),
        }
        self.scalars(scalars, step)
        routing = ""
        if interval.balance_loss is not None:
            routing = f" | balance {interval.balance_loss:.3f} RC {interval.mean_rc:.2f}"
        self.say(
            f"step {step}{'' if of is None else f'/{of}'} | loss {interval.loss:.3f} nll {interval.nll:.3f}{routing} | "
            f"lr {lr:.2e} | norm {norm:.2f} | {speed:,.0f} tok/s | ETA {format_duration(eta)}"
        )

    def data(self, epochs: Mapping[str, float], skipped: Mapping[str, int], step: int) -> None:
        """Log the epochs each direction has seen, and say how many sentence pairs were left out as too long."""
        self.scalars({f"data_epochs/{direction}": value for direction, value in epochs.items()}, step)
        total = sum(skipped.values())
        self.scalars({"train/skipped_sentences": total}, step)
        if total >= max(2 * self._skipped, 1):  # said when it has doubled, not at every line
            self._skipped = total
            most = max(skipped, key=lambda direction: skipped[direction])
            self.say(
                f"step {step} | {total} sentence pairs left out so far, longer than smoe.model.max_positions or "
                f"smoe.data.max_tokens; most in {most} ({skipped[most]})"
            )

    def skipped_steps(self, not_finite: int, spikes: int, step: int) -> None:
        """Log how many steps were not taken so far, and why."""
        self.scalars({"train/skipped_steps": not_finite, "train/skipped_spikes": spikes}, step)

    def validation(self, nll: Mapping[str, float], mean: float, *, step: int, best: bool) -> None:
        """Log validation losses per target token [nat], by direction, and their mean."""
        per_direction = {f"valid/nll/{direction}": value for direction, value in nll.items()}
        self.scalars({"valid/nll": mean, "valid/perplexity": math.exp(min(mean, 50.0)), **per_direction}, step)
        worst = max(nll, key=lambda direction: nll[direction])
        self.say(
            f"step {step} | validation nll {mean:.3f} perplexity {math.exp(min(mean, 50.0)):.1f} over {len(nll)} "
            f"directions, worst {worst} {nll[worst]:.3f}{' | best so far' if best else ''}"
        )

    def close(self) -> None:
        """Write everything out."""
        if self._writer is not None:
            self._writer.close()


def _moe_scalars(interval: Interval) -> dict[str, float]:
    scalars = {f"train/{name}": value for name, value in interval.auxiliary.items()}
    scalars |= {f"moe_requested_capacity/{block}": rc for block, rc in interval.requested_capacity.items()}
    for block, strata in interval.strata.items():
        for i, stratum in enumerate(strata):
            scalars[f"moe_tokens/{block}/stratum_{i}"] = stratum.tokens
            scalars[f"moe_load/{block}/stratum_{i}"] = stratum.load
            scalars[f"moe_dropped/{block}/stratum_{i}"] = stratum.dropped
            scalars[f"moe_gate_entropy/{block}/stratum_{i}"] = stratum.entropy
    return scalars
