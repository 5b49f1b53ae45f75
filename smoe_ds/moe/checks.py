"""Arguments and inputs of a stratified layer: what cannot work is refused with the remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.heads import head_problems
from smoe_ds.config.nearest import nearest
from smoe_ds.config.problems import dotted, rephrase
from smoe_ds.moe.experts import ACTIVATIONS


def block_settings(strata: Sequence[int], top_k: int, settings: Mapping[str, Any]) -> BlockSettings:
    """The settings of a block, checked.

    Args:
        strata: experts per stratum.
        top_k: experts per token and stratum.
        settings: the others by name, see :class:`smoe_ds.config.block.BlockSettings`; ``router`` may be a mapping.

    Raises:
        TypeError: a name is no setting.
        ValueError: says which setting, what it is and what it could be.
    """
    if not isinstance(strata, Sequence) or not strata or any(not isinstance(n, int) or n < 1 for n in strata):
        raise ValueError(f"strata {strata!r}: expected at least one expert for every stratum, e.g. [4, 12]")
    for name in settings:
        if name not in BlockSettings.model_fields:
            near = nearest(name, BlockSettings.model_fields)
            raise TypeError(f"{name} is no setting of a block" + (f"; did you mean {near}?" if near else ""))
    try:
        return BlockSettings(strata=list(strata), top_k=top_k, **settings)
    except ValidationError as error:
        problems = rephrase(error, BlockSettings, (), {})
        raise ValueError("; ".join(f"{dotted(one.path)}: {one.message}" for one in problems)) from None


def check_sizes(
    d_model: int,
    d_ffn: int,
    block: BlockSettings,
    ep_size: int,
    activation: str,
    dropout: float,
    norm_epsilon: float,
) -> None:
    """Refuses sizes that no layer can have.

    Raises:
        ValueError: says which argument, what it is and what it could be.
    """
    for name, value in {"d_model": d_model, "d_ffn": d_ffn, "ep_size": ep_size}.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; expected a whole number of 1 or more")
    num_experts = sum(block.strata)
    if num_experts % ep_size:
        divisors = [n for n in range(1, num_experts + 1) if num_experts % n == 0]
        raise ValueError(f"ep_size {ep_size} does not divide the {num_experts} experts; choose one of {divisors}")
    if ep_size > 1 and block.experts.one_rank:
        raise ValueError(f"ep_size is {ep_size}, but {block.experts.one_rank}; set it to 1")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
    for key, problem in head_problems(block, d_model, d_ffn, activation):
        raise ValueError(f"{key}: {problem}")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout!r}; expected a number from 0 to below 1")
    if not isinstance(norm_epsilon, float) or not 0 < norm_epsilon < 1:
        raise ValueError(f"norm_epsilon is {norm_epsilon!r}; expected a number between 0 and 1")


def check_custom_expert(expert: Callable[[], nn.Module] | None, block: BlockSettings) -> None:
    """Refuses experts of the caller's beside a kind that makes its own, or widths.

    Raises:
        ValueError: says which of the two to leave out.
    """
    if expert is not None and block.uneven:
        raise ValueError("expert_widths: experts of your own have their own width; leave it out")
    if expert is not None and block.experts.module is not None:
        raise ValueError(f"experts of the kind {block.experts.kind} are built in; leave out expert or experts")


def check_ep_rank(ep_rank: int, ep_size: int) -> None:
    """Refuses a rank outside the expert-parallel group.

    Raises:
        ValueError: says which ranks there are.
    """
    if not isinstance(ep_rank, int) or not 0 <= ep_rank < ep_size:
        raise ValueError(
            f"ep_rank is {ep_rank!r}; with ep_size {ep_size} expected a whole number from 0 to {ep_size - 1}"
        )


def make_experts(make: Callable[[], nn.Module], number: int) -> list[nn.Module]:
    """So many experts, each a module of its own.

    Raises:
        ValueError: ``make`` is a module itself, or makes something else, or the same module twice.
    """
    if isinstance(make, nn.Module):
        raise ValueError(
            f"expert is a {type(make).__name__}; expected a function that makes one, e.g. expert=lambda: ..."
        )
    made = [make() for _ in range(number)]
    for expert in made:
        if not isinstance(expert, nn.Module):
            raise ValueError(f"expert() made a {type(expert).__name__}; expected an nn.Module from [n, D] to [n, D]")
    if len(set(map(id, made))) < number:
        raise ValueError(
            "expert() returned the same module twice; make a new one at every call, or experts share weights"
        )
    return made


def check_input(
    x: Tensor,
    padding_mask: Tensor | None,
    num_tokens: int | None,
    d_model: int,
    token_ids: Tensor | None,
    pair: Tensor | None,
    block: BlockSettings,
) -> None:
    """Refuses an input of another width or kind, a mask of another shape or kind, a number that cannot be, and token
    ids that do not belong to it or are missing.

    Raises:
        ValueError: says what was expected.
    """
    if x.dim() < 1 or x.shape[-1] != d_model:
        raise ValueError(f"x has shape {list(x.shape)}; its last dimension must be d_model {d_model}")
    if not x.is_floating_point():
        raise ValueError(f"x is {x.dtype}; expected floating-point numbers")
    if padding_mask is not None and padding_mask.shape != x.shape[:-1]:
        raise ValueError(f"padding_mask has shape {list(padding_mask.shape)}; expected {list(x.shape[:-1])}")
    if padding_mask is not None and padding_mask.dtype != torch.bool:
        raise ValueError(f"padding_mask is {padding_mask.dtype}; expected torch.bool, True where a position is padding")
    if block.heads > 1 and x.dim() < 2:
        raise ValueError(f"x has shape {list(x.shape)}; a block with heads expects [..., S, {d_model}]")
    positions = x.shape[:-1].numel()
    if num_tokens is not None and not (0 if padding_mask is not None else positions) <= num_tokens <= positions:
        raise ValueError(f"num_tokens is {num_tokens}, but x has {positions} positions; leave it out without padding")
    if token_ids is None and block.router.needs:
        needs = " and ".join(sorted(block.router.needs))
        raise ValueError(
            f"the router {block.router.kind} looks at the {needs} of a token; call the layer with token_ids"
        )
    if pair is None and block.router.reads_pair():
        raise ValueError(f"the router {block.router.kind} goes by the pair of languages; call the layer with pair")
    if pair is not None and (token_ids is None or pair.shape != (len(token_ids), 2)):
        raise ValueError(f"pair has shape {list(pair.shape)}; expected [B, 2], with token_ids [B, S]")
    if token_ids is not None and (token_ids.shape != x.shape[:-1] or x.dim() != 3):
        raise ValueError(
            f"token_ids has shape {list(token_ids.shape)} and x {list(x.shape)}; expected [B, S], [B, S, D]"
        )


def check_num_tokens(name: str, said: int, counted: int, heads: int) -> None:
    """Refuses a wrong number of tokens.

    Args:
        name: of the block.
        said: slices of positions that the caller takes for no padding.
        counted: those that are none.
        heads: slices of a position.
    """
    if said != counted:
        raise ValueError(
            f"{name}: num_tokens is {said // heads}, but {counted // heads} positions are not padding; "
            "leave num_tokens out to have them counted"
        )
