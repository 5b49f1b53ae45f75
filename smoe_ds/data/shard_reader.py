"""One language of one shard, read back: lengths and ids of sentences by their number in it, checked on the way."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from smoe_ds.data.blocks import CheckedFile, num_blocks, read_sums
from smoe_ds.data.mapping import RESIDENT
from smoe_ds.data.ragged import Int64, Ragged, spans
from smoe_ds.data.shards import OFFSET_BLOCK, OFFSET_DTYPE, TOKEN_BLOCK


class ShardSide:
    """The sentences of one language of one shard; files are opened at the first look-up.

    Args:
        folder: folder of the pair in its split.
        entry: the side's entry in the manifest.
        dtype: type of a token id on disk.
    """

    def __init__(self, folder: Path, entry: dict[str, Any], dtype: np.dtype) -> None:
        self._folder, self._entry, self._dtype = folder, entry, dtype

    def __len__(self) -> int:
        return int(self._entry["idx"]["bytes"]) // OFFSET_DTYPE.itemsize - 1

    def lengths(self, rows: Int64) -> Int64:
        """Pieces of each sentence, int64 [N].

        Raises:
            DataError: a file is damaged where it is read; so for `read`.
        """
        start, stop = self.bounds(rows)
        return stop - start

    def read(self, rows: Int64) -> Ragged:
        """Ids of each sentence, in the type they have on disk; few pages are mapped at a time if rows go upwards."""
        start, stop = self.bounds(rows)
        lengths = stop - start
        ids = [
            self._tokens.read(start[piece], stop[piece])[spans(start[piece], lengths[piece])]
            for piece in self._pieces(start)
        ]
        return Ragged(ids[0] if len(ids) == 1 else np.concatenate(ids), lengths)

    def damaged_blocks(self, suffix: str) -> list[str]:
        """Byte offsets of the damaged blocks of the ``.bin`` or ``.idx`` file, and what lies there; reads it whole."""
        return (self._tokens if suffix == ".bin" else self._offsets).damaged_blocks()

    def bounds(self, rows: Int64) -> tuple[Int64, Int64]:
        """Numbers of each sentence's first id and of the one after its last, in the file of ids."""
        after = rows + 1
        offsets = self._offsets.read(rows, after + 1)
        return offsets[rows].view(np.int64), offsets[after].view(np.int64)

    def _pieces(self, start: Int64) -> list[slice]:
        """Slices of sentences that begin within ``RESIDENT`` bytes of the file of ids, if they go upwards."""
        if int(self._entry["bin"]["bytes"]) <= RESIDENT or len(start) < 2:
            return [slice(None)]
        part = start * self._dtype.itemsize // RESIDENT
        steps = np.diff(part)
        cuts = (np.flatnonzero(steps) + 1).tolist() if (steps >= 0).all() else []
        return [slice(*bounds) for bounds in zip([0, *cuts], [*cuts, len(start)], strict=True)]

    @property
    def token_file(self) -> Path:
        """The file of ids."""
        return self._folder / str(self._entry["bin"]["file"])

    @property
    def id_bytes(self) -> int:
        """Size of an id in it [bytes]."""
        return self._dtype.itemsize

    @cached_property
    def _files(self) -> tuple[CheckedFile, CheckedFile]:
        tokens, offsets = self._entry["bin"], self._entry["idx"]
        sums = read_sums(self._folder / self._entry["crc"]["file"], self._entry["crc"])
        border = num_blocks(tokens["bytes"], TOKEN_BLOCK)
        return (
            CheckedFile(
                self._folder / tokens["file"],
                self._dtype,
                tokens["bytes"],
                TOKEN_BLOCK,
                sums[:border],
                self._sentences_of_ids,
            ),
            CheckedFile(
                self._folder / offsets["file"],
                OFFSET_DTYPE,
                offsets["bytes"],
                OFFSET_BLOCK,
                sums[border:],
                self._sentences_of_offsets,
            ),
        )

    @property
    def _tokens(self) -> CheckedFile:
        return self._files[0]

    @property
    def _offsets(self) -> CheckedFile:
        return self._files[1]

    def _sentences_of_ids(self, start: int, stop: int) -> str:
        """Which sentences have ids in a range of bytes, as far as the offset table is right."""
        offsets = np.fromfile(self._folder / self._entry["idx"]["file"], OFFSET_DTYPE)
        place = np.searchsorted(offsets, [start // self._dtype.itemsize, (stop - 1) // self._dtype.itemsize], "right")
        first, last = (place - 1).clip(0, len(self) - 1).tolist()
        return f"ids of sentences {first} to {last} of {len(self)}"

    def _sentences_of_offsets(self, start: int, stop: int) -> str:
        last = min((stop - 1) // OFFSET_DTYPE.itemsize, len(self) - 1)
        return f"offsets of sentences {start // OFFSET_DTYPE.itemsize} to {last} of {len(self)}"

    def __getstate__(self) -> dict[str, Any]:
        """Without what was opened: the process that gets it checks for itself."""
        return {name: value for name, value in vars(self).items() if name != "_files"}
