"""How the experts of a planned run will be computed, by the rule that the layer itself asks."""

from __future__ import annotations

from smoe_ds.config.heads import inner_sizes
from smoe_ds.config.number_formats import DTYPE_OF
from smoe_ds.config.run import RunConfig
from smoe_ds.errors import ConfigError
from smoe_ds.moe.expert_backends import Accelerator, choose_backend

_H200, _V100 = Accelerator("cuda", (9, 0)), Accelerator("cuda", (7, 0))


def assumed_accelerator(precision: str) -> Accelerator:
    """The device of the shipped engine for a precision, where a plan is not told another: bf16 is an H200's."""
    return _H200 if precision == "bf16" else _V100


def planned_backend(run: RunConfig, accelerator: Accelerator | None = None) -> str:
    """``loop``, ``lean`` or ``grouped``, as the first block's experts are computed.

    Args:
        run: checked configuration.
        accelerator: what it will run on; None: see :func:`assumed_accelerator`.

    Raises:
        ConfigError: ``smoe.moe.expert_backend`` cannot work there.
    """
    model, moe = run.smoe.model, run.smoe.moe
    blocks = list(moe.blocks(model).values())
    width, d_ffn = model.d_model, model.d_ffn
    if blocks:
        width, d_ffn = inner_sizes(blocks[0], width, d_ffn, model.activation)
    try:
        return choose_backend(
            moe.expert_backend,
            accelerator or assumed_accelerator(run.precision),
            DTYPE_OF[run.precision],
            ep_size=moe.ep_size,
            widths=(width, moe.inner_width(d_ffn)),
            uneven=any(block.uneven for block in blocks),
            unusual=moe.experts.loop_only,
        )
    except ValueError as error:
        raise ConfigError(f"{run.source}: smoe.moe.{error}") from error
