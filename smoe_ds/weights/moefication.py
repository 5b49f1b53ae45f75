"""Cuts each feed-forward network of a trained dense model in experts of which a token computes a few.

A network is a sum over its hidden units, so it can be cut into parts that add up to it: ``FFN(h) = b2 + sum_e W2[:, e]
relu(W1[e] h + b1[e])``. An expert gets the units of one cluster of the rows of ``W1``, scaled to length 1; all have
equally many. With ``top_k`` E the model computes what the dense one did; with fewer, what the chosen parts add up to.

The gate's row of an expert is the mean of its units' rows, each scaled to length 1: the similarity of the paper, which
takes the nearest such mean to the direction of the token. A linear gate has no room for the means' own lengths, so
here the greatest product decides. The paper's MLP router is left out. ``b2`` is shared out among the chosen: each
expert holds the part 1 / ``top_k`` of it, so that a model is made for one ``top_k``.

Source: MoEfication, arXiv 2110.01786, 3.2 (parameter clustering) and 3.3 (similarity).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from smoe_ds.checkpoints.weights_reader import misfit
from smoe_ds.config.block import BlockSettings
from smoe_ds.config.smoe import SmoeConfig
from smoe_ds.engine.state import persistent_buffers
from smoe_ds.errors import CheckpointError, ConfigError
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.layer import StratifiedMoE
from smoe_ds.moe.seeding import derive_seed
from smoe_ds.weights.balanced_clusters import balanced_clusters, cluster_means

SETTINGS = (
    "smoe.moe.combine_weights=ones",
    "smoe.moe.capacity_factor=null",
    "smoe.moe.second_expert=argmax",
)
"""What the command sets, unless the user sets it otherwise."""
_NEEDED = {
    "combine_weights": "ones",
    "norm": "paper",
    "shared_expert": "none",
    "expert_output_masking": 0.0,
    "bias_balancing": 0.0,
    "expert_widths": [],
    "gate_scores": "linear",
}


def width_setting(smoe: SmoeConfig) -> str:
    """The ``--set`` argument for the width of the parts, from the experts of the first block."""
    experts = sum(next(iter(smoe.moe.blocks(smoe.model).values())).strata)
    return f"smoe.moe.expert_ffn={max(smoe.model.d_ffn // experts, 1)}"


def check_moefication(smoe: SmoeConfig) -> None:
    """Refuses settings with which the parts would not add up to the dense networks.

    Raises:
        ConfigError: says which, and what to set.
    """
    problems = [problem for block in smoe.moe.blocks(smoe.model).values() for problem in _problems(smoe, block)]
    if smoe.model.activation != "relu":
        problems.append(f"smoe.model.activation: is {smoe.model.activation}; MoEfication needs a relu model")
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _problems(smoe: SmoeConfig, block: BlockSettings) -> Iterator[str]:
    if len(block.strata) != 1:
        yield f"smoe.moe.strata: is {block.strata}; MoEfication makes one stratum, for example [16]"
        return
    if block.router.kind != "top_k":
        yield f"smoe.moe.router: is {block.router.kind}; MoEfication needs top_k"
    if block.experts.kind != "ffn":
        yield f"smoe.moe.experts: is {block.experts.kind}; MoEfication needs ffn"
    for key, needed in _NEEDED.items():
        if getattr(block, key) != needed:
            yield f"smoe.moe.{key}: is {getattr(block, key)}; MoEfication needs {needed}"
    experts, width, whole = block.strata[0], block.inner_width(smoe.model.d_ffn), smoe.model.d_ffn
    if experts * width != whole:
        yield (
            f"smoe.moe.expert_ffn: {experts} experts of {width} units are not the {whole} of the dense network; choose "
            "a number of experts that divides it, and leave expert_ffn out"
        )


def moefy(dense: Mapping[str, Tensor], model: Transformer, *, seed: int, source: Path) -> dict[str, Tensor]:
    """The weights of a model with experts, in the dtype of the dense ones.

    Args:
        dense: weights of the dense model by name.
        model: the model with experts; :func:`check_moefication` passed its settings.
        seed: of the clusters.
        source: of the dense weights, for messages.

    Raises:
        CheckpointError: the dense weights are not those of this model's dense twin.
    """
    result = dict(dense)
    for name, module in model.named_modules():
        if isinstance(module, StratifiedMoE):
            part = {inner: result.pop(f"{name}.{inner}", None) for inner in _DENSE}
            if missing := [inner for inner, weight in part.items() if weight is None]:
                raise CheckpointError(f"{source}: has no {name}.{missing[0]}; name a dense model of the same layers")
            cut = cut_network(
                {inner: weight for inner, weight in part.items() if weight is not None},
                module.block.strata[0],
                module.block.top_k,
                derive_seed(seed, "moefication", name),
            )
            result.update({f"{name}.{inner}": weight for inner, weight in cut.items()})
    held = {**dict(model.named_parameters()), **persistent_buffers(model)}
    expected = {name: tuple(parameter.shape) for name, parameter in held.items()}
    if problem := misfit(expected, {name: tuple(weight.shape) for name, weight in result.items()}):
        raise CheckpointError(
            f"{source}: is not the dense twin of the model asked for: {problem}; its smoe.model must be the same"
        )
    return result


_DENSE = ("norm.weight", "norm.bias", "ffn.w1", "ffn.b1", "ffn.w2", "ffn.b2")


def cut_network(dense: Mapping[str, Tensor], experts: int, top_k: int, seed: int) -> dict[str, Tensor]:
    """The weights of a block of ``experts`` parts.

    Args:
        dense: weights of the dense layer by their names in it; ``ffn.w1`` is [F, D], ``ffn.w2`` [D, F].
        experts: E, divides F.
        top_k: K.
        seed: of the clusters.
    """
    w1_FD = dense["ffn.w1"]
    directions_FD = F.normalize(w1_FD.double(), dim=1)
    cluster_F = balanced_clusters(directions_FD, experts, seed)
    block = {
        "norms.0.weight": dense["norm.weight"],
        "norms.0.bias": dense["norm.bias"],
        "gates.0": cluster_means(directions_FD, cluster_F, experts).to(w1_FD.dtype),
    }
    for e in range(experts):
        units = torch.nonzero(cluster_F == e).squeeze(1)
        block[f"experts.{e}.w1"] = w1_FD[units]
        block[f"experts.{e}.b1"] = dense["ffn.b1"][units]
        block[f"experts.{e}.w2"] = dense["ffn.w2"][:, units]
        block[f"experts.{e}.b2"] = dense["ffn.b2"] / top_k
    return block
