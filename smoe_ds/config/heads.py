"""How wide the rows and the experts of a block are; another width than the model's where its tokens are split."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_ds.config.block import BlockSettings

_MULTIPLE = 8


def inner_sizes(block: BlockSettings, d_model: int, d_ffn: int, activation: str) -> tuple[int, int]:
    """Width of a block's rows, and inner width of its experts.

    With H heads rows have width D / H. Unless ``expert_ffn`` says otherwise, an expert's inner width F' is that with
    which the block has as many matrix entries as one without heads: ``2 D^2 + E M (D / H) F' = E M D F`` for experts of
    M matrices, hence ``F' = H (F - 2 D / (M E))``, less what is above a multiple of 8 that grouped products need.

    Args:
        block: its settings.
        d_model: D.
        d_ffn: F.
        activation: of the experts.
    """
    if block.heads == 1:
        return d_model, d_ffn
    experts = (3 if activation == "swiglu" else 2) * sum(block.strata)
    same_size = block.heads * (d_ffn * experts - 2 * d_model) // experts
    if same_size > _MULTIPLE:
        same_size -= same_size % _MULTIPLE
    return d_model // block.heads, same_size if block.expert_ffn is None else block.expert_ffn


def head_problems(block: BlockSettings, d_model: int, d_ffn: int, activation: str) -> Iterator[tuple[str, str]]:
    """``(key, what is wrong and the remedy)`` of a block whose tokens cannot be split like that."""
    if d_model % block.heads:
        divisors = [n for n in range(1, 65) if d_model % n == 0]
        yield "heads", f"{block.heads} does not divide d_model {d_model}; choose one of {divisors}"
    elif inner_sizes(block, d_model, d_ffn, activation)[1] < 1:
        yield (
            "expert_ffn",
            f"two matrices of {d_model} x {d_model} leave nothing for {sum(block.strata)} experts of d_ffn {d_ffn}; "
            f"set expert_ffn, e.g. to {d_ffn}, or add experts",
        )
