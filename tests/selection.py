"""Which tests run: the quick ones, or with ``--all`` every one; side by side on several processes, or alone.

A test is named here by the beginning of its id: a folder, a file, a function or one case. A name that no test has ends
the run, and so does a folder that would be left without a test by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

SLOW: Mapping[str, Sequence[str]] = {}
"""Left out by default, by the reason. Files also mark tests themselves: ``@pytest.mark.slow``."""

GRIDS: Sequence[str] = ()
"""Whose cases are a grid: by default only its diagonal runs, on which each value of each parameter lies."""

ALONE: Mapping[str, Sequence[str]] = {}
"""Run one at a time, by the reason; so do all that are marked ``netns`` or ``slurm``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("selection of tests")
    group.addoption("--all", action="store_true", help="run slow tests too, and whole grids")
    group.addoption(
        "--turn",
        choices=["together", "alone"],
        help="run only tests that may run side by side (with -n), or only those that need the machine for themselves",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: needs the machine for itself: has deadlines, measures, or starts many")


def pytest_report_header(config: pytest.Config) -> str:
    return "every test" if config.getoption("all") else "without slow tests; --all runs every test"


@pytest.hookimpl(tryfirst=True)  # before -m, which may ask for the marks made here
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mark(items)
    if is_whole(config):
        check_tables(items)
    everything, turn = config.getoption("all"), config.getoption("turn")
    kept, left_out = [], []
    for item in items:
        wanted = everything or not item.get_closest_marker("slow")
        wanted &= turn is None or (turn == "alone") == bool(item.get_closest_marker("alone"))
        (kept if wanted else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def mark(items: Sequence[pytest.Item]) -> None:
    """Marks tests as slow and as alone."""
    slow = tuple(name for names in SLOW.values() for name in names)
    alone = tuple(name for names in ALONE.values() for name in names)
    grid = {item: None for item in items if is_named(item, GRIDS)}
    sides = grid_sides(list(grid))
    for item in items:
        if is_named(item, slow) or (item in grid and not on_diagonal(item, sides)):
            item.add_marker("slow")
        if is_named(item, alone) or item.get_closest_marker("netns") or item.get_closest_marker("slurm"):
            item.add_marker("alone")


def is_named(item: pytest.Item, names: Sequence[str]) -> bool:
    """Whether one of these names a folder, a file, a function or a case that the test is, or is in."""
    return any(item.nodeid == name or item.nodeid.startswith((f"{name}/", f"{name}::", f"{name}[")) for name in names)


Sides = dict[tuple[str, str], list[str]]


def grid_sides(items: Sequence[pytest.Item]) -> Sides:
    """The values of each ``parametrize`` of each function, in the order of the cases."""
    sides: Sides = {}
    for item in items:
        for parameters, value in _place(item).items():
            values = sides.setdefault((_function(item), parameters), [])
            if value not in values:
                values.append(value)
    return sides


def on_diagonal(item: pytest.Item, sides: Sides) -> bool:
    """Whether the case is the first one of all sides, the second one of all, and so on to the end of the longest.

    Shorter sides begin again.
    """
    place = {parameters: sides[_function(item), parameters] for parameters in _place(item)}
    longest = max(map(len, place.values()), default=0)
    return any(_place(item) == {name: side[n % len(side)] for name, side in place.items()} for n in range(longest))


def _place(item: pytest.Item) -> dict[str, str]:
    """The values of a case by the parameters that are set together."""
    names = [mark.args[0] for mark in item.iter_markers("parametrize")]
    given = getattr(item, "callspec", None)
    lists = [name.replace(",", " ").split() if isinstance(name, str) else list(name) for name in names]
    return {" ".join(ones): repr([given.params[one] for one in ones]) for ones in lists if given}


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def is_whole(config: pytest.Config) -> bool:
    """Whether all tests were collected, and not some that the command line names."""
    return config.args_source is not pytest.Config.ArgsSource.ARGS and not config.getoption("ignore")


def check_tables(items: Sequence[pytest.Item]) -> None:
    """Every name in the tables is the name of a test, and every folder has a test that is not slow.

    Raises:
        pytest.UsageError: one is not, or has none.
    """
    names = [name for table in (SLOW, ALONE) for names in table.values() for name in names]
    for name in (*names, *GRIDS):
        if not any(is_named(item, [name]) for item in items):
            raise pytest.UsageError(f"tests/selection.py: {name}: no test has this name; correct it or take it out")
    folders = {item.path.parent for item in items}
    for folder in sorted(folders - {item.path.parent for item in items if not item.get_closest_marker("slow")}):
        raise pytest.UsageError(f"tests/selection.py: all tests in {folder} are slow; let one of them run by default")
