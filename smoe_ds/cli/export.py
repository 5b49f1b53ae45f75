"""``smoe-ds export RUN --output OUT``: a model for inference, in half precision or without unused experts if wanted."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_checkpoint, add_device, add_directions, add_overrides
from smoe_ds.cli.files import write_text
from smoe_ds.cli.messages import note
from smoe_ds.cli.values import positive, share
from smoe_ds.config.number_formats import DTYPES
from smoe_ds.data.splits import HELD_OUT

if TYPE_CHECKING:
    from smoe_ds.analysis.merging import Merging
    from smoe_ds.analysis.pruning import Pruning
    from smoe_ds.analysis.pruning_cost import PruningCost
    from smoe_ds.decode.load import TrainedModel

HELP = "write a model for inference: one safetensors file, its settings and its vocabulary"
SCORES = "pruning_scores.json"
FORMATS = ("smoe_ds", "transformers", "ctranslate2")


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
    _add_format(parser)
    add_device(parser, "where to count and score for pruning")
    add_overrides(
        parser, "change one key of the exported settings, for example smoe.decode.beam_size=4; may be repeated"
    )
    _add_pruning(parser)


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="smoe_ds: for this program; transformers: a folder that from_pretrained reads, m2m_100 for a dense "
        "model, nllb-moe for a vanilla mixture of experts; ctranslate2: a dense model for CTranslate2, which must be "
        "installed (default: smoe_ds)",
    )
    parser.add_argument(
        "--languages",
        type=Path,
        metavar="FILE",
        help="with --format transformers: a line for each language with its code there and its name here, for example "
        "'cat_Latn cat' (default: the code it was imported with, else __NAME__)",
    )


def _add_pruning(parser: argparse.ArgumentParser) -> None:
    pruning = parser.add_argument_group(
        "fewer experts",
        "leave out experts that the chosen directions hardly use, or merge those that are alike; then score the model "
        "before and after",
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
    rule.add_argument(
        "--merge-experts",
        type=positive,
        metavar="N",
        help="make N experts of each MoE block by averaging those whose outputs are most alike (linear CKA), within a "
        "stratum",
    )
    add_directions(
        pruning,
        "directions the model has to serve (default: those it was trained on). Without one of the three above, only "
        "experts that these directions never use go, and no translation changes; needs the router task",
    )
    for name, default, text in (
        ("statistics", "valid", "count choices and compare experts on"),
        ("scored", "test", "score on"),
    ):
        help_text = f"held-out text to {text} (default: {default})"
        pruning.add_argument(f"--{name}", choices=HELD_OUT, default=default, help=help_text)
    pruning.add_argument("--limit", type=positive, metavar="N", help="score only the first N sentences per direction")


def run(args: argparse.Namespace) -> int:
    """Exports; with pruning also measures what it costs."""
    from smoe_ds.parallel.threads import choose_threads

    choose_threads(1)  # before PyTorch is imported
    from smoe_ds.decode.load import open_trained
    from smoe_ds.errors import CheckpointError
    from smoe_ds.weights.weights_folder import check_free

    check_free(args.output)
    trained = open_trained(args.run_dir, args.overrides, device=args.device)
    if trained.removed_experts:
        raise CheckpointError(f"{args.run_dir}: lacks experts that were removed on export; export the whole model")
    if args.format != FORMATS[0] or args.languages is not None:
        _export_elsewhere(trained, args)
    elif args.keep_experts is None and args.keep_share is None and args.merge_experts is None:
        _export(trained, args, None if args.directions is None else _cut(trained, args))
    else:
        _shrink(trained, args)
    return 0


def _export_elsewhere(trained: TrainedModel, args: argparse.Namespace) -> None:
    """The whole model in another program's format."""
    from smoe_ds.errors import ConfigError
    from smoe_ds.huggingface.ctranslate2_folder import export_to_ctranslate2
    from smoe_ds.huggingface.export_folder import chosen_codes, export_to_transformers
    from smoe_ds.report.new_models import exported_elsewhere_text

    changes = (args.keep_experts, args.keep_share, args.merge_experts, args.directions)
    if any(value is not None for value in changes):
        raise ConfigError(f"--format {args.format}: whole models only; leave the options for fewer experts out")
    if args.languages is not None and args.format != "transformers":
        raise ConfigError("--languages: only --format transformers has codes of languages; leave it out")
    checkpoint = trained.checkpoint(args.checkpoint)
    if args.format == "ctranslate2":
        parameters = export_to_ctranslate2(trained, checkpoint, args.output, args.dtype)
    else:
        codes = chosen_codes(trained, checkpoint, args.languages)
        parameters = export_to_transformers(trained, checkpoint, args.output, args.dtype, codes)
    note("export", exported_elsewhere_text(args.format, trained.step(checkpoint), parameters, args.dtype, args.output))


def _cut(trained: TrainedModel, args: argparse.Namespace) -> Pruning:
    """Without the experts that the directions never use; no text is needed to know them."""
    from smoe_ds.analysis.static_experts import cut_to_directions
    from smoe_ds.config.number_formats import torch_dtype
    from smoe_ds.errors import ConfigError
    from smoe_ds.report.pruning import removed_text

    smoe = trained.config.smoe
    if smoe.moe.is_dense:
        raise ConfigError(f"{args.run_dir}: is a dense model without experts; leave --directions out")
    directions = list(dict.fromkeys(name.strip() for name in args.directions.split(",") if name.strip()))
    whole = trained.translator(trained.checkpoint(args.checkpoint))
    whole.model.to(torch_dtype(args.dtype))  # gates choose by their numbers in the file
    pruning = cut_to_directions(whole, directions, smoe.moe.blocks(smoe.model))
    print(removed_text(pruning))
    return pruning


def _shrink(trained: TrainedModel, args: argparse.Namespace) -> None:
    from smoe_ds.analysis.merging import Merging, choose_groups
    from smoe_ds.analysis.pruning import KeepRule, choose_experts
    from smoe_ds.analysis.pruning_cost import measure_cost
    from smoe_ds.cli.open_model import chosen_directions, read_texts
    from smoe_ds.decode.load import ExportFolder
    from smoe_ds.errors import ConfigError
    from smoe_ds.report.pruning import merged_text, removed_text

    moe = trained.config.smoe.moe
    if moe.is_dense:
        raise ConfigError(
            f"{args.run_dir}: is a dense model; leave --keep-experts, --keep-share or --merge-experts out"
        )
    corpus, directions = chosen_directions("export", trained, args, args.directions, args.statistics)
    texts = read_texts("export", trained, args, ",".join(directions), args.scored)
    whole = trained.translator(trained.checkpoint(args.checkpoint))
    text = (whole, corpus, args.statistics, directions, moe.blocks(trained.config.smoe.model))
    change: Pruning | Merging
    if args.merge_experts is None:
        change = choose_experts(*text, KeepRule(args.keep_experts, args.keep_share))
    else:
        change = choose_groups(*text, args.merge_experts)
    _export(trained, args, change)
    print(merged_text(change) if isinstance(change, Merging) else removed_text(change))
    smaller = ExportFolder(args.output, device=args.device)
    models = {"whole": whole, "pruned": smaller.translator(smaller.checkpoint())}

    def progress(name: str, done: int, rate: float) -> None:
        print(f"{name} model: {done} sentences, {rate:.1f} sentences/s", file=sys.stderr)

    _report(args, measure_cost(texts, models, args.scored, args.limit, progress))


def _export(trained: TrainedModel, args: argparse.Namespace, change: Pruning | Merging | None) -> None:
    from smoe_ds.analysis.merging import Merging
    from smoe_ds.convert.export_trained import export_trained
    from smoe_ds.report.new_models import exported_text

    found = export_trained(
        trained,
        trained.checkpoint(args.checkpoint),
        args.output,
        args.dtype,
        removed=change.removed if change else {},
        pruning=change.as_json() if change else None,
        merged=change.groups if isinstance(change, Merging) else None,
    )
    note("export", exported_text(found))


def _report(args: argparse.Namespace, cost: PruningCost) -> None:
    """Table on stdout, the same as JSON in the export."""
    from smoe_ds.report.pruning import cost_table
    from smoe_ds.weights.weights_folder import as_text

    print(cost_table(cost, "pruned" if args.merge_experts is None else "merged").text())
    write_text(args.output / SCORES, as_text(cost.as_json()))
    note("export", f"wrote the scores to {args.output / SCORES}")
