"""The environment in which a test starts programs of its own: as outside of any launcher."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# "RANK" also covers no other name in use; PMI and MPI stand for Hydra's variables, OMPI and PMIX for Open MPI's.
_FOREIGN = (
    "SLURM", "SBATCH", "SRUN", "OMPI_", "PMIX_", "PMI_", "MPI_", "HYDI_", "I_MPI_", "MASTER_", "RANK", "WORLD_SIZE",
    "LOCAL_", "CROSS_", "TORCHELASTIC_", "GLOO_",
)  # fmt: skip


def own_environment(**more: str) -> dict[str, str]:
    """This process's environment without what a launcher left in it; with this interpreter's programs in front.

    Args:
        **more: further variables.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    programs = Path(sys.executable).parent
    ours = {
        "PATH": f"{programs}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "PYTHONPATH": str(ROOT),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    return kept | ours | more
