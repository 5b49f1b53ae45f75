"""Keys and values that grow in place, and attention in which one source serves several rows, against plain copies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from smoe_ds.model.attention import Attention, GrowingKeyValue, KeyValue, attention_mask


def drawn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(20))
def test_equals_concatenation_and_selection(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, heads, width = int(torch.randint(1, 6, (), generator=generator)), 2, 3
    cache, copies = GrowingKeyValue(), [torch.zeros(rows, heads, 0, width, dtype=torch.float64) for _ in range(2)]
    for step in range(75):  # room is made several times
        new = KeyValue(*(drawn(generator, rows, heads, 1 + step % 2, width) for _ in range(2)))
        copies = [torch.cat([old, more], dim=2) for old, more in zip(copies, (new.key, new.value), strict=True)]
        found = cache.append(new)
        assert torch.equal(found.key, copies[0]) and torch.equal(found.value, copies[1])
        assert cache.length == copies[0].shape[2]
        if step % 3:  # more rows, fewer, others, the same
            draw = int(torch.randint(1, 9, (), generator=generator))
            index = torch.arange(rows) if step % 5 == 0 else torch.randint(0, rows, (draw,), generator=generator)
            cache.keep(index)
            copies, rows = [one[index] for one in copies], index.numel()


def test_rows_that_stay_are_not_copied() -> None:
    cache = GrowingKeyValue()
    before = cache.append(KeyValue(torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1, 1))).key
    cache.keep(torch.arange(2))
    assert cache.append(KeyValue(torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1, 1))).key.data_ptr() == before.data_ptr()
    cache.keep(torch.tensor([1]))
    assert cache.append(KeyValue(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1))).key.shape[0] == 1


@pytest.mark.parametrize("masked", [True, False])
def test_rows_that_share_a_source_are_as_those_with_copies_of_it(masked: bool) -> None:
    generator, sources, rows, length = torch.Generator().manual_seed(0), 3, 4, 5
    attention = Attention(8, 2, 0.0).double().eval()
    attention.initialize(1, "attention")
    memory = attention.keys_and_values(drawn(generator, sources, length, 8))
    padding = torch.arange(length) >= torch.tensor([[5], [2], [3]])
    x = drawn(generator, sources * rows, 1, 8)
    each = torch.arange(sources).repeat_interleave(rows)
    found = attention(x, memory, attention_mask(padding) if masked else None)
    expected = attention(x, memory.select(each), attention_mask(padding[each]) if masked else None)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert found.shape == x.shape
