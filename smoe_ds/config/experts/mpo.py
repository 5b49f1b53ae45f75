"""``kind: mpo``: the experts' weight matrices as chains of five tensors, of which they share the middle one."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from smoe_ds.config.experts.section import ExpertsSection


class Mpo(ExpertsSection):
    """MPOE (arXiv 2203.01104): matrix product operators; the central tensors and the biases belong to all experts.

    The paper keeps the centre's gradient in some of the steps only, since all experts add to it. The authors' code does
    not, and neither do we: Adam makes the size of an update independent of how many gradients were added up.
    """

    module: ClassVar[str | None] = "smoe_ds.moe.experts_mpo:ChainCommon"
    one_width: ClassVar[str | None] = "the chains of all experts share their centre"

    kind: Literal["mpo"] = Field(
        default="mpo",
        description="Each weight matrix is a chain of five tensors; the large middle one, and the biases, are the same "
        "for all experts of a block (MPOE).",
    )
    bond: int | None = Field(
        default=None,
        gt=0,
        description="Two tensors of a chain are joined by an index of at most this size. null: as large as it takes to "
        "hold any matrix.",
    )
