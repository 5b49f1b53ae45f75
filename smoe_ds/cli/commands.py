"""The commands: their names, a line of help for each, and the modules they live in."""

from __future__ import annotations

import importlib
from types import ModuleType

COMMANDS = {
    "validate": "check a run file, and print the run with all defaults filled in, or everything that is wrong with it",
    "plan": "show parameters, FLOPs, memory and traffic of a run before you start it, and predict its speed at scale",
    "calibrate": "measure how fast this machine is, so that smoe-ds plan can predict step times from it",
    "doctor": "check whether a run can start here (memory, disks, network, data), and say what to fix if it cannot",
    "data": "check a prepared corpus, show its sentences, and see what a run will read of it",
    "train": "train a model from a run file, or continue from its last checkpoint",
    "study": "train several systems with several seeds, all alike, and compare them in tables and on a page",
    "translate": "translate text with a trained model",
    "serve": "serve a trained model: a page and a JSON API",
    "score": "log-probability and perplexity of given translations",
    "evaluate": "translate held-out text and score it with BLEU and chrF++",
    "compare": "compare evaluated runs in one table: scores by group, requested capacity, parameters, FLOPs",
    "analyze": "show how a trained model routes text: requested capacity, experts per language, loads of the strata",
    "report": "show runs side by side on one page: curves, scores, requested capacity, experts, single tokens",
    "checkpoint": "list, verify, compare and remove checkpoints",
    "average": "average the weights of several checkpoints",
    "export": "write a model for inference: one safetensors file, its settings and its vocabulary",
    "import": "import a model of Hugging Face's transformers (M2M100, NLLB), or a checkpoint that DeepSpeed saved",
    "upcycle": "make a mixture of experts from a dense model, its experts copies or parts of the feed-forward layers",
}
"""Commands with their one-line help; a command's module is imported only when it is used."""

_MODULES = {"import": "import_checkpoint"}
"""Modules whose name is not the command's, where that is a keyword of Python."""


def command_module(name: str) -> ModuleType:
    """The module of a command: ``HELP``, ``add_arguments(parser)`` and ``run(args) -> int``."""
    return importlib.import_module(f"smoe_ds.cli.{_MODULES.get(name, name)}")
