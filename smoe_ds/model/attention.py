"""Multi-head attention on torch's fused kernel, with a cache for decoding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.moe.seeding import uniform_, xavier_bound

_FIRST_ROOM = 32  # positions


@dataclass(frozen=True)
class KeyValue:
    """Keys and values of one attention [B, H, S, D/H]."""

    key: Tensor
    value: Tensor

    def select(self, index: Tensor) -> KeyValue:
        """Rows ``index`` of the batch."""
        return KeyValue(self.key.index_select(0, index), self.value.index_select(0, index))


class GrowingKeyValue:
    """Keys and values of the positions so far, to which those of the next one are added step by step.

    They lie in memory that has room for later positions. When rows change places they are copied into a second piece
    of the same size, which is kept for the next time: large allocations in every step cost more than the copies.

    Attributes:
        length: positions so far.
    """

    def __init__(self) -> None:
        self.length = 0
        self._rows = 0
        self._room: list[Tensor] = []  # keys, values: each [at least the rows, H, at least the length, D/H]
        self._spare: list[Tensor] = []

    def append(self, new: KeyValue) -> KeyValue:
        """Adds keys and values of the next position(s) [B, H, S, D/H]; returns all so far, as views."""
        parts = (new.key, new.value)
        if not self._room:
            self._rows = new.key.shape[0]
        end = self.length + new.key.shape[2]
        if not self._room or end > self._room[0].shape[2]:
            self._grow(parts, max(_FIRST_ROOM, 2 * end))
        for room, part in zip(self._room, parts, strict=True):
            room[: self._rows, :, self.length : end] = part
        self.length = end
        return KeyValue(*(room[: self._rows, :, :end] for room in self._room))

    def keep(self, index: Tensor) -> None:
        """Keeps rows ``index`` of the batch, in that order; an index may repeat or be left out."""
        if not self._room or (index.device.type == "cpu" and torch.equal(index, torch.arange(self._rows))):
            return
        if not self._spare or self._spare[0].shape[0] < index.numel():
            self._spare = [room.new_empty(index.numel(), *room.shape[1:]) for room in self._room]
        for room, spare in zip(self._room, self._spare, strict=True):
            so_far = room[: self._rows, :, : self.length]
            torch.index_select(so_far, 0, index, out=spare[: index.numel(), :, : self.length])
        self._room, self._spare, self._rows = self._spare, self._room, index.numel()

    def _grow(self, like: tuple[Tensor, Tensor], room: int) -> None:
        larger = [part.new_empty(self._rows, part.shape[1], room, part.shape[3]) for part in like]
        for new, old in zip(larger, self._room, strict=False):
            new[:, :, : self.length] = old[: self._rows, :, : self.length]
        self._room, self._spare = larger, []


def attention_mask(padding_mask_BS: Tensor) -> Tensor:
    """Mask for scaled_dot_product_attention [B, 1, 1, S], True where a position may be attended to.

    Position 0 always may: a sentence that is all padding would otherwise give a softmax over nothing, which is NaN.
    Sentences are padded on the right, so that no real sentence is affected.
    """
    attend = ~padding_mask_BS
    attend[:, 0] = True
    return attend[:, None, None, :]


class Attention(nn.Module):
    """Projections and scaled dot-product attention; one module serves self- and cross-attention."""

    def __init__(self, d_model: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def initialize(self, *name: object) -> None:
        """Xavier; inputs' projections as for one [3D, D] matrix. Biases zero."""
        d_model = self.out.in_features
        uniform_(self.query.weight, xavier_bound(d_model, 3 * d_model), *name, "query")
        uniform_(self.key_value.weight, xavier_bound(d_model, 3 * d_model), *name, "key_value")
        uniform_(self.out.weight, xavier_bound(d_model, d_model), *name, "out")
        for linear in (self.query, self.key_value, self.out):
            nn.init.zeros_(linear.bias)

    def keys_and_values(self, x: Tensor) -> KeyValue:
        """Project [B, S, D] to keys and values."""
        key, value = self.key_value(x).chunk(2, dim=-1)
        return KeyValue(self._split_heads(key), self._split_heads(value))

    def forward(
        self, x: Tensor, memory: KeyValue, mask: Tensor | None = None, causal: bool = False, project: bool = True
    ) -> Tensor:
        """Attend from [B, T, D] to ``memory``; returns [B, T, D].

        Args:
            x: queries' input.
            memory: keys and values. If ``memory`` has fewer rows than x, each serves as many neighbouring rows of x,
                which are its queries together; not with ``causal``.
            mask: True where attention is allowed, broadcastable to [B, H, T, S].
            causal: position t sees keys 0 .. t only.
            project: apply the output projection.
        """
        attended = F.scaled_dot_product_attention(
            self._split_heads(self.query(x).view(memory.key.shape[0], -1, x.shape[2])),
            memory.key,
            memory.value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        heads = attended.transpose(1, 2).reshape(x.shape)
        return self.out(heads) if project else heads

    def weights(self, x: Tensor, memory: KeyValue, mask: Tensor | None = None) -> Tensor:
        """How much `forward` attends to each position, without dropout; [B, H, T, S], float32 or wider."""
        query, key = self._split_heads(self.query(x)), memory.key
        scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(dim=3, dtype=torch.promote_types(scores.dtype, torch.float32))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)
