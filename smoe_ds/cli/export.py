"""``smoe-ds export RUN --output OUT``: a model for inference, in half precision or without unused experts if wanted."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import DTYPES, add_checkpoint, add_device, add_directions, add_overrides
from smoe_ds.cli.files import write_text
from smoe_ds.cli.messages import note
from smoe_ds.cli.values import positive, share

if TYPE_CHECKING:
    from smoe_ds.analysis.pruning import KeepRule, Pruning
    from smoe_ds.analysis.pruning_cost import PruningCost
    from smoe_ds.decode.load import TrainedModel

HELP = "write a model for inference: one safetensors file, its settings and its vocabulary"
SCORES = "pruning_scores.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="run folder, or a checkpoint RUN/checkpoints/step_N")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder for the model")
    add_checkpoint(parser)
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="number format of the weights in the file (default: float32); what it is computed in is chosen when it is "
        "used",
    )
    add_device(parser, "where to count and score for pruning")
    add_overrides(
        parser, "change one key of the exported settings, for example smoe.decode.beam_size=4; may be repeated"
    )
    pruning = parser.add_argument_group(
        "pruning", "leave out experts that the chosen directions hardly use; then score the model with and without them"
    )
    rule = pruning.add_mutually_exclusive_group()
    rule.add_argument(
        "--keep-experts", type=positive, metavar="N", help="keep the N most used experts of each MoE block"
    )
    rule.add_argument(
        "--keep-share",
        type=share,
        metavar="P",
        help="keep the experts that get at least this share of a direction's choices in their block, for example 0.02",
    )
    add_directions(pruning, "directions the model has to serve (default: those it was trained on)")
    for name, default, text in (("statistics", "valid", "count the choices on"), ("scored", "test", "score on")):
        help_text = f"held-out text to {text} (default: {default})"
        pruning.add_argument(f"--{name}", choices=["valid", "test"], default=default, help=help_text)
    pruning.add_argument("--limit", type=positive, metavar="N", help="score only the first N sentences per direction")


def run(args: argparse.Namespace) -> int:
    """Exports; with pruning also measures what it costs."""
    from smoe_ds.parallel.threads import choose_threads

    choose_threads(1)  # before PyTorch is imported
    from smoe_ds.analysis.pruning import KeepRule
    from smoe_ds.decode.load import open_trained
    from smoe_ds.errors import CheckpointError
    from smoe_ds.weights.weights_folder import check_free

    check_free(args.output)
    trained = open_trained(args.run_dir, args.overrides, device=args.device)
    if trained.removed_experts:
        raise CheckpointError(f"{args.run_dir}: lacks experts that were removed on export; export the whole model")
    if args.keep_experts is None and args.keep_share is None:
        _export(trained, args, None)
    else:
        _prune(trained, args, KeepRule(args.keep_experts, args.keep_share))
    return 0


def _prune(trained: TrainedModel, args: argparse.Namespace, rule: KeepRule) -> None:
    from smoe_ds.analysis.pruning import choose_experts
    from smoe_ds.analysis.pruning_cost import measure_cost
    from smoe_ds.cli.open_model import chosen_directions, read_texts
    from smoe_ds.decode.load import ExportFolder
    from smoe_ds.errors import ConfigError
    from smoe_ds.report.pruning import removed_text

    moe = trained.config.smoe.moe
    if moe.is_dense:
        raise ConfigError(f"{args.run_dir}: is a dense model; leave --keep-experts and --keep-share out")
    corpus, directions = chosen_directions("export", trained, args, args.directions, args.statistics)
    texts = read_texts("export", trained, args, ",".join(directions), args.scored)
    whole = trained.translator(trained.checkpoint(args.checkpoint))
    pruning = choose_experts(whole, corpus, args.statistics, directions, moe, rule)
    _export(trained, args, pruning)
    print(removed_text(pruning))
    pruned = ExportFolder(args.output, device=args.device)
    models = {"whole": whole, "pruned": pruned.translator(pruned.checkpoint())}

    def progress(name: str, done: int, rate: float) -> None:
        print(f"{name} model: {done} sentences, {rate:.1f} sentences/s", file=sys.stderr)

    _report(args, measure_cost(texts, models, args.scored, args.limit, progress))


def _export(trained: TrainedModel, args: argparse.Namespace, pruning: Pruning | None) -> None:
    from smoe_ds.decode.export_trained import export_trained

    checkpoint, removed = trained.checkpoint(args.checkpoint), pruning.removed if pruning else {}
    found = export_trained(
        trained, checkpoint, args.output, args.dtype, removed=removed, pruning=pruning.as_json() if pruning else None
    )
    size = f"{found.parameters:,} parameters in {found.dtype} ({found.bytes / 2**20:.1f} MiB)"
    note("export", f"wrote step {found.step}, {size}, to {found.folder}")


def _report(args: argparse.Namespace, cost: PruningCost) -> None:
    """Table on stdout, the same as JSON in the export."""
    from smoe_ds.report.pruning import cost_table
    from smoe_ds.weights.weights_folder import as_text

    print(cost_table(cost).text())
    write_text(args.output / SCORES, as_text(cost.as_json()))
    note("export", f"wrote the scores to {args.output / SCORES}")
