"""The cheapest assignment of rows to columns that take equally many each; exact, and the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def assign(cost_RC: Floats, room: int = 1) -> Ints:
    """The column of each row [R], so that no column has more than ``room`` rows and the sum of costs is least.

    Row by row along the shortest way to a column with room (successive shortest paths with prices; for ``room`` 1 the
    Hungarian method of Jonker and Volgenant, 1987). The time is that of R searches, each O(R C) at worst.

    Args:
        cost_RC: what a row costs in a column, finite.
        room: rows that a column takes; ``room * C`` is at least R.
    """
    cost_RC = np.asarray(cost_RC, dtype=np.float64)
    column_R = np.full(cost_RC.shape[0], -1, dtype=np.int64)
    row_price_R, price_C = np.zeros(cost_RC.shape[0]), np.zeros(cost_RC.shape[1])
    for row in range(cost_RC.shape[0]):
        _place(row, cost_RC, room, column_R, row_price_R, price_C)
    return column_R


def _place(row: int, cost_RC: Floats, room: int, column_R: Ints, row_price_R: Floats, price_C: Floats) -> None:
    """Gives one more row its column, moving others where that is cheaper; prices stay those of a least sum."""
    distance_C = cost_RC[row] - price_C
    came_from_C = np.full(len(price_C), row)
    passed: list[int] = []
    waiting_C = np.ones(len(price_C), dtype=bool)
    while True:
        column = int(np.where(waiting_C, distance_C, np.inf).argmin())
        here = distance_C[column]
        members = np.flatnonzero(column_R == column)
        if len(members) < room:
            break
        passed.append(column)
        waiting_C[column] = False
        onward_MC = cost_RC[members] - row_price_R[members, None] - price_C + here
        best_C = onward_MC.argmin(0)
        onward_C = onward_MC[best_C, np.arange(len(price_C))]
        shorter_C = waiting_C & (onward_C < distance_C)
        distance_C[shorter_C] = onward_C[shorter_C]
        came_from_C[shorter_C] = members[best_C[shorter_C]]
    row_price_R[row] = here
    for other in passed:
        row_price_R[column_R == other] += here - distance_C[other]
        price_C[other] -= here - distance_C[other]
    while True:
        mover = int(came_from_C[column])
        column, column_R[mover] = int(column_R[mover]), column
        if mover == row:
            return
