"""``python -m launch COMMAND``."""

from __future__ import annotations

from launch.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
