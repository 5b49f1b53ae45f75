"""``smoe-ds export RUN --output OUT``: a model for inference, in half precision or without unused experts if wanted."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.cli.arguments import add_checkpoint, add_overrides, positive

if TYPE_CHECKING:
    from smoe_ds.analysis.pruning import KeepRule
    from smoe_ds.decode.load import TrainedModel
    from smoe_ds.evaluate.evaluation import DirectionResult, HeldOut

HELP = "write a model for inference alone: one safetensors file, JSON and the vocabulary"
SCORES = "pruning_scores.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="run folder, or a checkpoint RUN/checkpoints/step_N")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder")
    add_checkpoint(parser)
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="of the weights in the file"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="for pruning; default: the GPU if there is one")
    add_overrides(parser, "change one key of the exported configuration, e.g. smoe.decode.beam_size=4")
    pruning = parser.add_argument_group(
        "pruning", "leave out the experts that some directions do not use; gates then choose among the others"
    )
    rule = pruning.add_mutually_exclusive_group()
    rule.add_argument("--keep-experts", type=positive, metavar="N", help="keep the N most used experts of each block")
    rule.add_argument(
        "--keep-share",
        type=share,
        metavar="P",
        help="keep experts that get at least this share of a direction's choices in the block, e.g. 0.02",
    )
    pruning.add_argument("--directions", metavar="A-B,...", help="that the model is to serve; default: those trained")
    pruning.add_argument("--data", type=Path, metavar="DIR", help="prepared corpus; default: smoe.data.path of the run")
    pruning.add_argument(
        "--statistics",
        choices=["valid", "test"],
        default="valid",
        help="held-out text whose choices are counted (default valid)",
    )
    pruning.add_argument(
        "--scored", choices=["valid", "test"], default="test", help="held-out text to score on (default test)"
    )
    pruning.add_argument("--limit", type=positive, metavar="N", help="score the first N sentences of each direction")


def share(text: str) -> float:
    """A share between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 to 1")
    return value


def run(args: argparse.Namespace) -> int:
    """Exports; with pruning also measures what it costs."""
    from smoe_ds.analysis.pruning import KeepRule
    from smoe_ds.decode.load import open_trained
    from smoe_ds.errors import CheckpointError
    from smoe_ds.weights.weights_folder import check_free

    check_free(args.output)
    trained = open_trained(args.run_dir, args.overrides, device=args.device)
    if trained.removed_experts:
        raise CheckpointError(f"{args.run_dir}: lacks experts that were removed on export; export the whole model")
    if args.keep_experts is None and args.keep_share is None:
        _write(trained, args, {}, None)
        return 0
    _prune(trained, args, KeepRule(args.keep_experts, args.keep_share))
    return 0


def _prune(trained: TrainedModel, args: argparse.Namespace, rule: KeepRule) -> None:
    from smoe_ds.analysis.pruning import experts_to_remove, measure_use, use_as_json
    from smoe_ds.cli.evaluate import chosen_directions, open_corpus
    from smoe_ds.decode.load import ExportFolder
    from smoe_ds.errors import ConfigError
    from smoe_ds.evaluate.evaluation import read_held_out
    from smoe_ds.weights.pruned import placement_of

    moe = trained.config.smoe.moe
    if moe.is_dense:
        raise ConfigError(f"{args.run_dir}: is a dense model; leave --keep-experts and --keep-share out")
    corpus = open_corpus(trained, args.data)
    directions = chosen_directions(trained.config.smoe.data.directions, corpus, args.directions, args.statistics)
    scored = chosen_directions(trained.config.smoe.data.directions, corpus, ",".join(directions), args.scored)
    texts = [read_held_out(corpus, args.scored, direction, args.limit) for direction in scored]
    whole = trained.translator(trained.checkpoint(args.checkpoint))
    use = measure_use(whole, corpus, args.statistics, directions)
    removed = experts_to_remove(use, placement_of(moe), moe.top_k, rule)
    pruning = {
        "rule": dataclasses.asdict(rule),
        "directions": directions,
        "split": args.statistics,
        "corpus": corpus.fingerprint,
        "use": use_as_json(use),
    }
    _write(trained, args, removed, pruning)
    _print_removed(removed, placement_of(moe).num_experts)
    pruned = ExportFolder(args.output, device=args.device)
    before = _scores(texts, whole, "whole")
    after = _scores(texts, pruned.translator(pruned.checkpoint()), "pruned")
    _report(args, before, after)


def _write(
    trained: TrainedModel,
    args: argparse.Namespace,
    removed: Mapping[str, Sequence[int]],
    pruning: Mapping[str, Any] | None,
) -> None:
    from smoe_ds.checkpoints.weights_reader import misfit
    from smoe_ds.decode.shape import model_shape
    from smoe_ds.errors import CheckpointError
    from smoe_ds.weights.export import cast, write_export
    from smoe_ds.weights.pruned import placement_of, prune_weights

    checkpoint = trained.checkpoint(args.checkpoint)
    weights = trained.weights(checkpoint)
    shape = model_shape(trained.config.smoe, trained.tokenizer.vocab_size)
    if problem := misfit(shape.shapes, {name: tuple(weight.shape) for name, weight in weights.items()}):
        raise CheckpointError(f"{checkpoint}: does not fit the model of {trained.files.config}: {problem}")
    if removed:
        weights = prune_weights(weights, placement_of(trained.config.smoe.moe), removed)
    weights = cast(weights, args.dtype, shape.buffers)
    write_export(
        args.output,
        trained.config.to_dict(),
        trained.tokenizer.model_file,
        weights,
        step=trained.step(checkpoint),
        dtype=args.dtype,
        source=trained.source(checkpoint),
        removed_experts=removed,
        pruning=pruning,
    )
    numbers = sum(weight.numel() for weight in weights.values())
    megabytes = sum(weight.nbytes for weight in weights.values()) / 2**20
    print(
        f"smoe-ds export: step {trained.step(checkpoint)}, {numbers:,} parameters in {args.dtype} "
        f"({megabytes:.1f} MiB), is in {args.output}",
        file=sys.stderr,
    )


def _print_removed(removed: Mapping[str, Sequence[int]], num_experts: int) -> None:
    for block, numbers in removed.items():
        kept = num_experts - len(numbers)
        print(f"{block}: {kept} of {num_experts} experts kept, removed {', '.join(map(str, numbers)) or 'none'}")


def _scores(texts: Sequence[HeldOut], translator: Any, name: str) -> list[DirectionResult]:
    from smoe_ds.evaluate.evaluation import evaluate_direction
    from smoe_ds.evaluate.metrics import Metrics

    metrics = Metrics()

    def progress(done: int, rate: float) -> None:
        print(f"{name} model: {done} sentences, {rate:.1f} sentences/s", file=sys.stderr)

    return [evaluate_direction(text, translator, None, metrics, progress) for text in texts]


def _report(args: argparse.Namespace, before: Sequence[DirectionResult], after: Sequence[DirectionResult]) -> None:
    """Table on stdout, the same as JSON in the export."""
    from smoe_ds.checkpoints.commit import write_text_durably
    from smoe_ds.evaluate.evaluation import averages
    from smoe_ds.evaluate.metrics import Metrics
    from smoe_ds.report.tables import RULE, text_table
    from smoe_ds.weights.weights_folder import as_text

    rows: list[Any] = [
        _row(one.direction, one.score.bleu, two.score.bleu, one.score.chrf, two.score.chrf)
        for one, two in zip(before, after, strict=True)
    ]
    means = list(zip(averages(before), averages(after), strict=True))
    rows += [RULE] if means else []
    rows += [_row(f"mean of {m.directions} {m.name}", m.bleu, n.bleu, m.chrf, n.chrf) for m, n in means]
    header = ["direction", "BLEU whole", "pruned", "difference", "chrF++ whole", "pruned", "difference"]
    print(text_table(header, rows))
    content = {
        "split": args.scored,
        "limit": args.limit,
        "signatures": Metrics().signatures,
        "directions": {
            one.direction: {"whole": dataclasses.asdict(one.score), "pruned": dataclasses.asdict(two.score)}
            for one, two in zip(before, after, strict=True)
        },
    }
    write_text_durably(args.output / SCORES, as_text(json.loads(json.dumps(content))))
    print(f"smoe-ds export: scores in {args.output / SCORES}", file=sys.stderr)


def _row(name: str, bleu: float, bleu_after: float, chrf: float, chrf_after: float) -> list[Any]:
    return [name, bleu, bleu_after, bleu_after - bleu, chrf, chrf_after, chrf_after - chrf]
