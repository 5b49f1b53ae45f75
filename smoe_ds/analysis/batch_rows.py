"""Values of single tokens, batch after batch, in the same order however many ranks have shared the batches."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from smoe_ds.parallel.agreement import gather_array

Value = TypeVar("Value", bound=np.generic)


class BatchRows(Generic[Value]):
    """One-dimensional values that batches add in turn; ranks are dealt the batches as `ValidationBatches` does.

    Args:
        dtype: of the values.
    """

    def __init__(self, dtype: type[Value]) -> None:
        self._dtype = dtype
        self._parts: list[NDArray[Value]] = []

    def add(self, values: NDArray[Any]) -> None:
        """Adds the values of this rank's next batch, or none for an empty one."""
        self._parts.append(values.astype(self._dtype))

    def gather(self) -> NDArray[Value] | None:
        """Those of all batches, in their order, on rank 0; None on other ranks. A collective."""
        lengths = gather_array(np.array([len(part) for part in self._parts], np.int64))
        values = gather_array(np.concatenate([np.zeros(0, self._dtype), *self._parts]))
        if lengths is None or values is None:
            return None
        by_rank = [np.split(of, np.cumsum(ends)[:-1]) for of, ends in zip(values, lengths, strict=True)]
        return np.concatenate([part for a_round in zip(*by_rank, strict=True) for part in a_round])
