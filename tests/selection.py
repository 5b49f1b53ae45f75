"""Which tests run: the quick ones, or with ``--all`` nearly every one; side by side on several processes, or alone.

A test is named here by the beginning of its id: a folder, a file, a function or one case. A name that no test has ends
the run, and so does a folder that would be left without a test by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

SLOW: Mapping[str, Sequence[str]] = {
    "benchmarks whose parts have tests of their own": (
        "tests/benchmarks/test_benchmarks.py::test_analyze_benchmark",
        "tests/benchmarks/test_benchmarks.py::test_exchange_benchmark",
        "tests/benchmarks/test_benchmarks.py::test_growth_benchmark",
        "tests/benchmarks/test_first_updates_benchmark.py::test_systems_of_a_small_run",
        "tests/benchmarks/test_benchmarks.py::test_link_benchmark",
        "tests/benchmarks/test_benchmarks.py::test_overlap_benchmark",
        "tests/benchmarks/test_benchmarks.py::test_panels_benchmark",
        "tests/benchmarks/test_benchmarks.py::test_prepare_benchmark",
        "tests/benchmarks/test_data.py::test_the_stream_through_the_command",
        "tests/benchmarks/test_pruning_benchmark.py",
        "tests/benchmarks/test_scaling_benchmark.py::test_small_runs_on_one_and_two_ranks",
        "tests/benchmarks/test_throughput_benchmark.py::test_systems_race",
    ),
    "compiles DeepSpeed's Adam for the host": (
        "tests/engine/test_native_adam.py::test_a_killed_compilation_keeps_nobody_waiting",
        "tests/engine/test_native_adam.py::test_another_programs_lock_is_respected_and_named",
        "tests/engine/test_native_adam.py::test_what_is_compiled_is_loaded_without_a_word",
    ),
    "launchers; by default torchrun and MPICH's mpirun train, and a rank under deepspeed is killed": (
        "tests/test_chain.py::test_launchers_train_alike",
        "tests/launch/test_launchers.py::test_five_steps[deepspeed]",
        "tests/launch/test_launchers.py::test_five_steps[deepspeed --launcher mpich]",
        "tests/launch/test_launchers.py::test_five_steps[deepspeed --launcher openmpi]",
        "tests/launch/test_launchers.py::test_a_rank_that_is_killed_ends_the_run_and_is_named[torchrun]",
        "tests/launch/test_launchers.py::test_a_rank_that_is_killed_ends_the_run_and_is_named[mpirun]",
    ),
    "hosts that are apart; by default one is cut off in an exchange, and one from the start": (
        "tests/cli/test_calibrate.py::test_two_hosts",
        "tests/netns/test_cut_off.py::test_cut_off_and_rejoined[save-2]",
        "tests/netns/test_cut_off.py::test_two_hosts_that_only_rank_0_still_reaches",
        "tests/netns/test_doctor.py",
        "tests/netns/test_start.py::test_the_other_host_does_not_come[0]",
        "tests/netns/test_start.py::test_the_other_host_does_not_come[1]",
    ),
    "jobs; by default one is trained and killed, and an array prepares a corpus": (
        "tests/slurm/test_doctor.py",
        "tests/slurm/test_jobs.py::test_a_cancelled_job_leaves_a_checkpoint_and_is_not_requeued",
        "tests/slurm/test_jobs.py::test_a_corpus_prepared_by_several_has_the_same_bytes[mpi]",
        "tests/slurm/test_jobs.py::test_a_run_that_cannot_start_fails_with_its_reason_in_the_log",
        "tests/slurm/test_jobs.py::test_an_evaluation_by_four_ranks_is_that_of_one_process",
        "tests/slurm/test_jobs.py::test_a_study_is_shared_by_the_tasks_of_an_array",
    ),
    "much of the same": (
        "tests/cli/test_export_elsewhere.py::test_transformers_translates_the_same[nllb-moe-True]",
        "tests/cli/test_export_elsewhere.py::test_transformers_translates_the_same[m2m_100-False]",
        "tests/data/test_scale.py::test_start_and_resume_cost_the_same_and_little[1.0]",
        "tests/data_prep/readers/test_read_source.py::test_empty_lines_are_counted[1000000]",
        "tests/data_prep/test_cli.py::test_a_stopped_process_says_what_it_keeps_and_the_next_goes_on[1-15-terminated]",
        "tests/distributed/test_expert_parallel.py::test_equals_one_process[4-2-1]",
        "tests/distributed/test_expert_parallel.py::test_equals_one_process[4-4-9]",
        "tests/distributed/test_random_cases.py::test_equals_one_process[2-2]",
        "tests/distributed/test_random_cases.py::test_equals_one_process[4-4]",
        "tests/faults/test_killed_saves.py::test_one_of_two_ranks_is_killed_at_some_points",
        "tests/faults/test_stalls.py::test_who_makes_no_progress_is_named_and_not_who_waits_for_it[data-0]",
        "tests/faults/test_stalls.py::test_who_makes_no_progress_is_named_and_not_who_waits_for_it[save-1]",
        "tests/huggingface/test_train_on.py",
        "tests/huggingface/test_walk.py",
        "tests/planning/test_plan_memory.py::test_planned_memory_is_that_of_the_engine[1-0-{}]",
        "tests/planning/test_plan_memory.py::test_planned_memory_is_that_of_the_engine[2-1-{}]",
        "tests/planning/test_plan_memory.py::test_planned_memory_is_that_of_the_engine[2-1-{'fp16.enabled': 'true'}]",
        "tests/planning/test_plan_memory.py::test_planned_memory_is_that_of_the_engine[2-2-{}]",
        "tests/planning/test_plan_memory.py::test_planned_memory_with_offload_is_that_of_the_engine[1-2-{}]",
        "tests/train/test_damaged_data.py::test_all_ranks_stop_when_the_copy_of_one_is_damaged[valid]",
    ),
}
"""Left out by default, by the reason. Files also mark tests themselves: ``@pytest.mark.slow``."""

ASKED: Mapping[str, Sequence[str]] = {
    "minutes, 16 GiB of memory and 10 GiB of disk": ("tests/huggingface/test_600m.py",),
    "minutes, and --all has every fifth point or more of it": (
        "tests/engine/test_grid.py::test_every_pair_of_the_grid",
        "tests/faults/test_killed_saves.py::test_killed_at_every_point_that_changes_the_disk[1]",
    ),
}
"""Left out even with ``--all``, by the reason: run only if the command line names just these tests, or some of them."""

GRIDS: Sequence[str] = ("tests/train/test_offload.py::test_losses_are_those_without_offload",)
"""Whose cases are a grid: by default only its diagonal runs, on which each value of each parameter lies."""

ALONE: Mapping[str, Sequence[str]] = {
    "deadlines of seconds": (
        "tests/data_prep/workers/test_crew.py",
        "tests/distributed/test_layer_faults.py",
        "tests/doctor/test_ranks.py",
        "tests/faults/test_deaths.py",
        "tests/faults/test_ends.py",
        "tests/faults/test_stalls.py",
        "tests/launch/test_launchers.py::test_a_rank_that_is_killed_ends_the_run_and_is_named",
        "tests/watch",
    ),
    "measures time or traffic": (
        "tests/benchmarks/test_benchmarks.py::test_overlap_benchmark",
        "tests/benchmarks/test_benchmarks.py::test_prepare_benchmark",
        "tests/benchmarks/test_data.py::test_the_stream_through_the_command",
        "tests/benchmarks/test_scaling_benchmark.py",
        "tests/benchmarks/test_throughput_benchmark.py",
        "tests/data/test_scale.py",
        "tests/parallel/test_link_speed.py",
    ),
}
"""Run one at a time, by the reason; so do all that are marked ``netns`` or ``slurm``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("selection of tests")
    group.addoption("--all", action="store_true", help="run slow tests too, and whole grids")
    group.addoption(
        "--turn",
        choices=["together", "alone"],
        help="run only tests that may run side by side (with -n), or only those that need the machine for themselves",
    )


def pytest_report_header(config: pytest.Config) -> str:
    return "every test" if config.getoption("all") else "without slow tests; --all runs every test"


@pytest.hookimpl(tryfirst=True)  # before -m, which may ask for the marks made here
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mark(items)
    if is_whole(config):
        check_tables(items)
    everything, turn = config.getoption("all"), config.getoption("turn")
    asked = [name for names in ASKED.values() for name in names]
    asked_for = [a for a in config.args if any(a == n or a.startswith((f"{n}::", f"{n}[")) for n in asked)]
    kept, left_out = [], []
    for item in items:
        wanted = everything or not item.get_closest_marker("slow")
        if is_named(item, asked):
            wanted = is_named(item, asked_for)
        wanted &= turn is None or (turn == "alone") == bool(item.get_closest_marker("alone"))
        (kept if wanted else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = longest_files_first(kept) if turn == "together" else kept


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


def longest_files_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Files with slow tests first: one of them as the last would keep all but one process waiting."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    return sorted(items, key=lambda item: item.path not in long)


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
    names = [name for table in (SLOW, ALONE, ASKED) for names in table.values() for name in names]
    for name in (*names, *GRIDS):
        if not any(is_named(item, [name]) for item in items):
            raise pytest.UsageError(f"tests/selection.py: {name}: no test has this name; correct it or take it out")
    folders = {item.path.parent for item in items}
    for folder in sorted(folders - {item.path.parent for item in items if not item.get_closest_marker("slow")}):
        raise pytest.UsageError(f"tests/selection.py: all tests in {folder} are slow; let one of them run by default")
