"""Variables that launchers leave in the environment: numbers, and what they tell of the launcher."""

from __future__ import annotations

from collections.abc import Mapping

from smoe_ds.errors import LaunchError

MPI_RANK_VARIABLES = (
    "PMI_RANK",
    "PMIX_RANK",
    "MV2_COMM_WORLD_RANK",
    "PALS_RANKID",
    "ALPS_APP_PE",
    "FLUX_TASK_RANK",
    "JSM_NAMESPACE_RANK",
)
"""Where MPI's process managers write the rank: Hydra and SLURM, Open MPI, MVAPICH, Cray's two, Flux, IBM's."""
LOCAL_RANK_VARIABLES = (
    "LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "SLURM_PROCID",
    *MPI_RANK_VARIABLES,
)
"""What each launcher gives to every process of its own, and has not itself; the innermost launcher's first."""
_FIRST_SPECIAL_STEP = 0xFFFFFFF0  # SLURM's numbers for the batch script, the interactive shell and the like


def is_slurm_step(environ: Mapping[str, str]) -> bool:
    """Whether ``srun`` started this process, or a launcher around it; not the batch script, not a shell of salloc."""
    if not all(name in environ for name in ("SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS")):
        return False
    return number_in(environ, "SLURM_STEP_ID") < _FIRST_SPECIAL_STEP


def number_in(environ: Mapping[str, str], name: str) -> int:
    """The whole number in a variable.

    Raises:
        LaunchError: it is not set, or holds something else.
    """
    text = environ.get(name)
    if text is None or not text.strip().isdecimal():
        raise LaunchError(f"environment: {name} is {text!r}, expected a whole number from 0")
    return int(text)
