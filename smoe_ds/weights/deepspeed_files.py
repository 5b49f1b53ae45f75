"""Weights out of what DeepSpeed's ``engine.save_checkpoint`` wrote of a model of ours: the only place that unpickles.

DIR/latest                                      the tag
DIR/TAG/mp_rank_00_model_states.pt              the module's state dict; with ep_size above 1 without experts
DIR/TAG/layer_M_expert_E_mp_rank_00_...pt       one expert each, named by `smoe_ds.moe.deepspeed_layer`
DIR/TAG/[bf16_]zero_pp_rank_R_mp_rank_00_...pt  ZeRO 1 and 2: rank R's piece of the fp32 weights and of Adam's state

Under ZeRO the fp32 weights are taken; without it those of the module, in the precision the model computed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_LATEST = "latest"  # of DeepSpeed: the tag, not one of our checkpoints
_MODULE = "mp_rank_00_model_states.pt"
_EXPERT = re.compile(r"layer_\d+_expert_\d+_mp_rank_00_model_states\.pt")
_ZERO = re.compile(r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_00_optim_states\.pt")
_NAME = re.compile(r"(.*?)deepspeed_moe\.experts\.deepspeed_experts\.(\d+)\.(.+)")
_NUMBER = "number_in_layer"


@dataclass(frozen=True)
class DeepSpeedWeights:
    """What was read.

    Attributes:
        weights: fp32, by logical name.
        step: optimizer steps taken.
        precision: that of the numbers: "float32", or that of the module where no fp32 weights are kept.
        written_by: DeepSpeed's version.
    """

    weights: dict[str, Tensor]
    step: int
    precision: str
    written_by: str


def find_checkpoint(folder: Path, tag: str | None) -> Path:
    """The folder of a tag; nothing is unpickled.

    Args:
        folder: what ``save_checkpoint`` was given, or a tag's folder in it.
        tag: None takes the one in ``latest``.

    Raises:
        CheckpointError: there is none, or it is of a layout that models here never have.
    """
    if tag is None and (folder / _LATEST).is_file():
        tag = (folder / _LATEST).read_text(encoding="utf-8").strip()
    found = folder if tag is None else folder / tag
    if any(found.glob("zero_pp_rank_*_model_states.pt")):
        raise CheckpointError(
            f"{found}: is of ZeRO stage 3, which mixtures of experts do not have; expected stage 0 to 2"
        )
    if any(found.glob("mp_rank_01_*")):
        raise CheckpointError(f"{found}: is of a tensor-parallel model, which models here are not")
    if not (found / _MODULE).is_file():
        tags = sorted(path.parent.name for path in folder.glob(f"*/{_MODULE}"))
        hint = f"there are the tags {', '.join(tags)}" if tags else "name the folder given to engine.save_checkpoint"
        raise CheckpointError(f"{found}: has no checkpoint of DeepSpeed's ({_MODULE}); {hint}")
    return found


def read_deepspeed_checkpoint(folder: Path, *, trust: bool) -> DeepSpeedWeights:
    """Unpickles and puts together a checkpoint.

    Args:
        folder: what `find_checkpoint` gave.
        trust: whether the user vouches for the files.

    Raises:
        CheckpointError: without trust; or a file is damaged or missing, or experts are not of a layer of ours.
    """
    if not trust:
        raise CheckpointError(
            f"{folder}: DeepSpeed pickles its checkpoints, and reading a pickle can run any program that its writer "
            "put there; give --trust if you wrote the files yourself or trust their source as you trust a program"
        )
    module = _unpickle(folder / _MODULE)
    try:
        stored = dict(module["module"])
        step, written_by = int(module["global_steps"]), str(module["ds_version"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / _MODULE}: lacks {error}; expected what engine.save_checkpoint writes"
        ) from error
    for path in sorted(path for path in folder.iterdir() if _EXPERT.fullmatch(path.name)):
        stored |= _unpickle(path)
    weights = logical_names(stored, folder)
    precision = str(next(weight.dtype for weight in weights.values() if weight.is_floating_point()))
    weights = {name: weight.detach().float() for name, weight in weights.items()}
    if ranks := _zero_files(folder):
        weights |= _whole_weights([_unpickle(path) for path in ranks], weights, folder)
        precision = "float32"
    return DeepSpeedWeights(weights, step, precision.removeprefix("torch."), written_by)


def logical_names(stored: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Experts by their number in the layer; other names stay.

    Args:
        stored: state dict; experts of ep_size above 1 are named as DeepSpeed's own.
        source: for messages.

    Raises:
        CheckpointError: an expert does not say which it is, or two say the same.
    """
    result, numbers = {}, {}
    for name, value in stored.items():
        match = _NAME.fullmatch(name)
        if match and match[3] == _NUMBER:
            numbers[match[1], match[2]] = int(value)
    for name, value in stored.items():
        match = _NAME.fullmatch(name)
        if match and match[3] == _NUMBER:
            continue
        if match and (match[1], match[2]) not in numbers:
            raise CheckpointError(
                f"{source}: {name} comes without {_NUMBER}, so which expert it is cannot be told; expected a layer of "
                "this package (smoe_ds.moe.StratifiedMoE), not DeepSpeed's own"
            )
        logical = f"{match[1]}experts.{numbers[match[1], match[2]]}.{match[3]}" if match else name
        if logical in result:
            raise CheckpointError(f"{source}: has {logical} twice; its files are from more than one checkpoint")
        result[logical] = value
    return result


def _zero_files(folder: Path) -> list[Path]:
    """ZeRO's files, by rank."""
    found = [(match, path) for path in folder.iterdir() if (match := _ZERO.fullmatch(path.name))]
    return [path for match, path in sorted(found, key=lambda entry: int(entry[0][1]))]


def _whole_weights(ranks: list[Any], module: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """fp32 weights from the ranks' pieces, which lie in the order of the ranks."""
    import torch

    pieces: dict[str, list[Tensor]] = {}
    try:
        for rank in ranks:
            state = rank["optimizer_state_dict"]
            flats, addresses = state["single_partition_of_fp32_groups"], state["param_slice_mappings"]
            for flat, by_name in zip(flats, addresses, strict=True):
                for name, address in by_name.items():
                    piece = flat.detach().float().narrow(0, address.start, address.numel)
                    pieces.setdefault(name, []).append(piece)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{source}: ZeRO's files are not as DeepSpeed writes them ({type(error).__name__}: {error})"
        ) from error
    whole = {}
    for name, parts in pieces.items():
        if name not in module or sum(part.numel() for part in parts) != module[name].numel():
            raise CheckpointError(
                f"{source}: the pieces of {name} in the {len(ranks)} files of ZeRO's do not make up the whole; a file "
                "is missing, or is of another checkpoint"
            )
        whole[name] = torch.cat(parts).view(module[name].shape)
    return whole


def _unpickle(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # a damaged pickle can raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise CheckpointError(f"{path}: cannot be read ({reason}); the file is damaged") from error
