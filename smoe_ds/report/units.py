"""Numbers with a unit that fits their size."""

from __future__ import annotations

_DECIMAL = (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3))
_BINARY = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def si(value: float) -> str:
    """One decimal and a decimal prefix: ``656.0M``."""
    unit, size = next(((unit, size) for unit, size in _DECIMAL if value >= size), ("", 1))
    return f"{value / size:.1f}{unit}"


def binary_bytes(value: float) -> str:
    """Bytes with two decimals and a binary unit: ``18.02 GiB``."""
    unit, size = next(((unit, size) for unit, size in _BINARY if value >= size), ("B", 1))
    return f"{value / size:.2f} {unit}"
