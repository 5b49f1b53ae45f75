"""What ranks would import or find out each for itself, for the server that they are forked from.

Nothing here starts a thread or a process group: a fork would lose the one and share the other.
"""

from __future__ import annotations

import importlib

MODULES = (
    "torch.distributed",
    "torch.utils.tensorboard",
    "deepspeed",
    "deepspeed.moe.layer",
    # imported when an engine is built, and with it the whole of torch.compile: 3 to 5 s in each process
    "deepspeed.runtime.zero.muon.muon_optimizer",
    "deepspeed.module_inject.auto_ep_layer",
    "deepspeed.ops.triton_ops",
    "sentencepiece",
    "smoe_ds.cli.main",
    "smoe_ds.cli.train",
    "smoe_ds.parallel.process_group",
    "smoe_ds.run.lock",
    "smoe_ds.train.trainer",
    "smoe_ds.engine.checkpoint",
    "tests.helpers.engines",
    "tests.helpers.small_run",
)

for name in MODULES:
    importlib.import_module(name)

# DeepSpeed tries which of its kernels could be compiled here, with a compiler, when it is first asked.
import deepspeed  # noqa: E402

dict(deepspeed.ops.__compatible_ops__)
