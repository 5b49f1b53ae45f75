"""Compresses what tests write, by the ending of the file's name."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable

from data_prep.readers.compressed import zstd

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: zstd().compress(data, options={zstd().CompressionParameter.checksum_flag: 1}),
}
