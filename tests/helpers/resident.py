"""How much of a mapped file is in this process's memory."""

from __future__ import annotations

from pathlib import Path


def resident_of(path: Path) -> int:
    """Resident bytes of the mappings of a file in this process."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            inside = line.endswith(str(path))
        elif inside and first == "Rss:":
            total += int(line.split()[1]) * 1024
    return total
