"""All checks, in the order in which they are done and printed: cheap ones first, each sure of those before it."""

from __future__ import annotations

from smoe_ds.doctor.adam_op import PATIENCE, check_adam_op
from smoe_ds.doctor.checkpoints import check_checkpoints
from smoe_ds.doctor.clocks import check_clocks
from smoe_ds.doctor.cores import check_cores
from smoe_ds.doctor.corpus import PATIENCE_FULL, check_corpus
from smoe_ds.doctor.examine import Check
from smoe_ds.doctor.gpu import check_gpu
from smoe_ds.doctor.interfaces import check_interfaces
from smoe_ds.doctor.launcher import check_launcher
from smoe_ds.doctor.limits import check_limits
from smoe_ds.doctor.memory import check_memory
from smoe_ds.doctor.network import check_network
from smoe_ds.doctor.run_folder import check_run_folder
from smoe_ds.doctor.shared_folder import check_shared_folder
from smoe_ds.doctor.versions import check_versions


def all_checks(*, full: bool = False) -> list[Check]:
    """The checks of a run.

    Args:
        full: every byte of corpus and newest checkpoint is read, which takes its time.
    """
    reading = PATIENCE_FULL if full else 1.0
    return [
        Check("launcher", check_launcher),
        Check("versions", check_versions, patience=2.0),
        Check("GPU", check_gpu),
        Check("memory", check_memory),
        Check("limits", check_limits),
        Check("cores", check_cores),
        Check("corpus", check_corpus, patience=reading),
        Check("run folder", check_run_folder),
        Check("shared", check_shared_folder, patience=2.0),
        Check("checkpoints", check_checkpoints, patience=reading),
        Check("clocks", check_clocks),
        Check("interfaces", check_interfaces),
        Check("network", check_network, patience=4.0),
        Check("Adam", check_adam_op, patience=PATIENCE),
    ]
