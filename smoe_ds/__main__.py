"""``python -m smoe_ds COMMAND``."""

from __future__ import annotations

from smoe_ds.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
