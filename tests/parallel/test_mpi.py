"""mpi4py as it is met under mpirun."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.environment import own_environment


def test_mpi4py_without_an_mpi_is_told_how_to_go_on(tmp_path: Path) -> None:
    """A real mpi4py that is pointed at a library which does not exist raises RuntimeError, not ImportError."""
    pytest.importorskip("mpi4py")
    code = (
        "from smoe_ds.parallel.env import Env\n"
        "from smoe_ds.parallel.mpi import agree_on_meeting_point\n"
        "from smoe_ds.errors import LaunchError\n"
        "try:\n    agree_on_meeting_point(Env(0, 2, 0, 2, None, None, 'mpich'))\n"
        "except LaunchError as error:\n    print(error)\n"
    )
    environ = own_environment(MPI4PY_LIBMPI=str(tmp_path / "libmpi.so"))
    run = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "mpich: MASTER_ADDR and MASTER_PORT are not set, and mpi4py cannot be used" in run.stdout


def test_the_place_of_a_rank_whose_launcher_set_no_variables_for_it(tmp_path: Path) -> None:
    """mpirun with what it says of hosts taken away again: MPI itself is asked."""
    mpirun = Path(sys.executable).with_name("mpirun")
    if not mpirun.exists():
        pytest.skip("needs MPICH (pip install mpich)")
    code = (
        "import sys\nfrom pathlib import Path\nfrom smoe_ds.parallel.launchers import discover\nenv = discover()\n"
        "place = env.launcher, env.rank, env.world_size, env.local_rank, env.local_world_size\n"
        "Path(sys.argv[1], str(env.rank)).write_text(repr(place))\n"
    )
    without = ["env", "-u", "MPI_LOCALRANKID", "-u", "MPI_LOCALNRANKS", sys.executable, "-c", code, str(tmp_path)]
    command = [str(mpirun), "-n", "2", *without]
    run = subprocess.run(command, env=own_environment(), capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    found = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert found == ["('mpi', 0, 2, 0, 2)", "('mpi', 1, 2, 1, 2)"]
