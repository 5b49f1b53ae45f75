"""Experts whose weight matrices are chains of tensors with a common centre."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from smoe_ds.config.experts.mpo import Mpo
from smoe_ds.moe.chain_shapes import CENTRE, LENGTH, OWN, ChainShape
from smoe_ds.moe.common import Common
from smoe_ds.moe.experts import ReadyFFN
from smoe_ds.moe.initial import initialize
from smoe_ds.moe.matrix_chain import contract, random_isometry
from smoe_ds.moe.seeding import derive_seed


class ChainExpert(nn.Module):
    """The outer tensors of one expert: ``w1_1``, ``w1_2``, ``w1_4``, ``w1_5``, and those of the other matrices.

    Args:
        shapes: of the chains, by the matrix's name.
    """

    def __init__(self, shapes: Mapping[str, ChainShape]) -> None:
        super().__init__()
        self.shapes = shapes
        for name, shape in shapes.items():
            for place in OWN:
                self.register_parameter(tensor_name(name, place), nn.Parameter(torch.empty(shape.tensor(place))))

    def initialize(self, *name: object, how: str) -> None:
        """Random isometries: the matrix's elements then vary as the centre's do, which ``how`` is about."""
        for matrix, shape in self.shapes.items():
            for place in OWN:
                parameter = getattr(self, tensor_name(matrix, place))
                if parameter.is_meta:
                    continue
                before, i, j, after = shape.tensor(place)
                generator = torch.Generator().manual_seed(derive_seed(*name, tensor_name(matrix, place)))
                sizes = (before * i * j, after) if place < CENTRE else (before, i * j * after)
                with torch.no_grad():
                    parameter.copy_(random_isometry(*sizes, generator).view(before, i, j, after))


class ChainCommon(Common):
    """The centres ``w1``, ``w2`` (SwiGLU: ``w3``) and the biases of all experts of a block."""

    def __init__(self, settings: Mpo, d_model: int, d_ffn: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        sizes = {"1": (d_ffn, d_model), "3": (d_ffn, d_model), "2": (d_model, d_ffn)}
        self.sizes = {number: sizes[number] for number in (("1", "3", "2") if activation == "swiglu" else ("1", "2"))}
        self.shapes = {f"w{number}": ChainShape.of(*size, settings.bond) for number, size in self.sizes.items()}
        for number, (rows, _) in self.sizes.items():
            shape = self.shapes[f"w{number}"]
            self.register_parameter(f"w{number}", nn.Parameter(torch.empty(shape.tensor(CENTRE))))
            self.register_parameter(f"b{number}", nn.Parameter(torch.zeros(rows)))

    def expert(self) -> ChainExpert:
        return ChainExpert(self.shapes)

    def initialize(self, *name: object, how: str) -> None:
        """A centre takes its elements from a matrix of full size, scaled so that the chain has that matrix's norm. With
        ``zero``, that of ``w2`` and all biases are 0, the others as ``linear``."""
        for number, size in self.sizes.items():
            centre, bias = getattr(self, f"w{number}"), getattr(self, f"b{number}")
            if centre.is_meta:
                continue
            drawn = torch.empty(size)
            initialize(drawn, bias, "linear" if how == "zero" else how, *name, f"w{number}")
            if how == "zero":
                nn.init.zeros_(bias)
            if how == "zero" and number == "2":
                nn.init.zeros_(drawn)
            with torch.no_grad():
                scale = math.sqrt(drawn.numel() / centre.numel())
                centre.copy_(scale * drawn.flatten()[: centre.numel()].view_as(centre))

    def ready(self, experts: nn.ModuleDict) -> dict[str, nn.Module | ReadyFFN]:
        """The experts' matrices from their chains, those of all experts at once."""
        modules = list(experts.values())
        weights: list[dict[str, Tensor]] = [{} for _ in modules]
        for name in self.shapes:
            tensors = [
                getattr(self, name)
                if place == CENTRE
                else torch.stack([getattr(module, tensor_name(name, place)) for module in modules])
                for place in range(LENGTH)
            ]
            for own, matrix in zip(weights, contract(tensors).unbind(), strict=True):
                own[name] = matrix
        biases = {f"b{number}": cast(Tensor, getattr(self, f"b{number}")) for number in self.sizes}
        return {
            number: ReadyFFN(self.activation, **own, **biases) for number, own in zip(experts, weights, strict=True)
        }


def tensor_name(matrix: str, place: int) -> str:
    """The parameter of an expert that is the tensor at a place from 0 of a matrix's chain."""
    return f"{matrix}_{place + 1}"
