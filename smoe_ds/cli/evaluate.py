"""``smoe-ds evaluate RUN``: BLEU and chrF++ per direction as a table and as JSON, and some translations to look at.

Started as several ranks (``srun``, ``torchrun``, ``deepspeed``, ``mpirun``) it spreads the directions over them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_directions, add_model_arguments
from smoe_ds.cli.files import check_replaceable, make_folder, write_text
from smoe_ds.cli.formats import add_format, print_page
from smoe_ds.cli.messages import note
from smoe_ds.cli.open_model import on_ranks, open_run, rank_device, read_texts
from smoe_ds.cli.values import positive, resamples
from smoe_ds.data.splits import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoe_ds.decode.load import TrainedModel
    from smoe_ds.evaluate.evaluate_model import Task
    from smoe_ds.evaluate.evaluated_run import EvaluatedRun
    from smoe_ds.evaluate.evaluation import DirectionResult
    from smoe_ds.evaluate.held_out import HeldOut
    from smoe_ds.parallel.env import Env

HELP = "translate held-out text and score it with BLEU and chrF++"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = (
        "Under a launcher (srun, torchrun, deepspeed, mpirun) the ranks share the directions. If it is killed, the "
        "same command goes on with the directions that are left."
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--split", choices=HELD_OUT, default="test", help="which held-out text to score (default: test)"
    )
    add_directions(
        parser,
        "directions to score, for example eng-nso,nso-eng; zero-shot means all that have held-out text but no "
        "training text (default: those the run was trained on)",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="score only the first N sentences per direction")
    parser.add_argument("--untrained", action="store_true", help="also score the model as it was before training")
    parser.add_argument("--samples", type=int, default=5, metavar="N", help="translations to print (default: 5)")
    parser.add_argument(
        "--again", action="store_true", help="translate again what an earlier evaluation has translated in the same way"
    )
    _add_scoring(parser)
    add_format(parser, "the scores")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.json",
        help="file for the scores (default: RUN/scores.json). The translations go to a folder beside it: translations/ "
        "of scores.json, NAME.translations/ of NAME.json",
    )


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    from smoe_ds.evaluate.tokenizers import TOKENIZERS

    parser.add_argument(
        "--tokenize",
        choices=TOKENIZERS,
        help="BLEU's tokenizer for all directions; flores200 gives spBLEU (default: by target language: zh for "
        "Chinese, ja-mecab and ko-mecab for Japanese and Korean if they are installed, else char; char for other "
        "languages written without spaces; 13a for all the rest). spBLEU stands beside BLEU where the model of its "
        "tokenizer is on this machine",
    )
    parser.add_argument(
        "--groups",
        type=Path,
        metavar="FILE",
        help="YAML file of groups for means, for example low: [nso, eng-cat] (default: resource levels of the corpus)",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="RUN",
        help="test the differences from another run, which was evaluated on the same text, by paired bootstrap and "
        "approximate randomisation",
    )
    parser.add_argument(
        "--bootstrap",
        type=resamples,
        default=1000,
        metavar="N",
        help="draw N texts for the 95 %% intervals and for --against; 0 for none (default: 1000)",
    )
    parser.add_argument(
        "--trials",
        type=positive,
        default=10_000,
        metavar="N",
        help="exchange sentences N times for --against (default: 10000)",
    )
    parser.add_argument(
        "--comet",
        type=Path,
        metavar="DIR",
        help="also score with the COMET model in this folder; needs pip install unbabel-comet",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints the table, writes the files; ranks share the directions, and the first one does the rest."""
    return on_ranks(args, _run)


def _run(args: argparse.Namespace, env: Env) -> int:
    from smoe_ds.evaluate.evaluate_model import evaluate_model, evaluation_of
    from smoe_ds.report.scores import cut_notes, scores_page
    from smoe_ds.weights.weights_folder import as_text

    model = open_run(args, rank_device(args, env))
    task, output = _task(args, model)
    if env.rank == 0:
        _note_replaced(output, task)
        _note_spbleu(args.tokenize, task)

    def progress(number: int, done: int, rate: float | None) -> None:
        text = task.texts[number]
        place = f"[{number + 1}/{len(task.texts)}] {text.direction}"
        how = "translated before" if rate is None else f"{rate:.1f} sentences/s"
        print(f"{place}: {done} of {len(text.sources)} sentences, {how}", file=sys.stderr)

    results = evaluate_model(task, env.rank, env.world_size, progress)
    if env.rank > 0:
        return 0
    evaluation = evaluation_of(task, results, args.samples, _comet(args.comet, task, results))
    for text in cut_notes(evaluation, model.config.smoe.model.max_positions):
        note("evaluate", text)
    content = as_text(evaluation.as_json())
    write_text(output, content)
    print_page(scores_page(evaluation), args.format, content)
    note("evaluate", f"wrote the scores to {output} and the translations to {task.translations}")
    return 0


def _task(args: argparse.Namespace, model: TrainedModel) -> tuple[Task, Path]:
    """What to evaluate, and the file for the scores; all that can be refused is refused here, before any work."""
    from smoe_ds.evaluate.comet import check_comet
    from smoe_ds.evaluate.evaluate_model import Task
    from smoe_ds.evaluate.evaluated_run import read_evaluated
    from smoe_ds.evaluate.held_out import corpus_of
    from smoe_ds.evaluate.metrics import SPBLEU_TOKENIZER
    from smoe_ds.evaluate.resource_levels import resource_levels
    from smoe_ds.evaluate.tokenizers import SUBWORDS, check_tokenizer, missing_model

    if args.tokenize:
        check_tokenizer(args.tokenize)
    spbleu = args.tokenize not in SUBWORDS and missing_model(SPBLEU_TOKENIZER) is None
    if spbleu:
        check_tokenizer(SPBLEU_TOKENIZER)
    if args.comet:
        check_comet(args.comet)
    texts = read_texts("evaluate", model, args, args.directions, args.split)
    groups = corpus_of(model, args.data).manifest.get("groups", {})
    levels = resource_levels([text.direction for text in texts], groups, args.groups)
    output = args.output or model.files.scores
    against = _against(read_evaluated(args.against), texts, args.bootstrap, output) if args.against else None
    model.checkpoint(args.checkpoint)  # one that is not there is refused before anything is written
    translations = _checked_places(output)
    conditions = (model, args.checkpoint, texts, args.split, args.limit, args.tokenize, args.untrained, translations)
    return Task(*conditions, levels, spbleu, args.bootstrap, args.trials, against, args.again), output


def _against(other: EvaluatedRun, texts: Sequence[HeldOut], bootstrap: int, output: Path) -> EvaluatedRun:
    from smoe_ds.errors import ConfigError

    if not bootstrap:
        raise ConfigError("--against: needs the bootstrap; leave out --bootstrap 0")
    other.check_kept(output, _translations_folder(output))
    other.check_translated(texts)
    for text in texts:
        other.translations(text.direction)
    return other


def _note_spbleu(tokenize: str | None, task: Task) -> None:
    from smoe_ds.evaluate.metrics import SPBLEU_TOKENIZER
    from smoe_ds.evaluate.tokenizers import SUBWORDS, missing_model

    if not task.spbleu and tokenize not in SUBWORDS:
        note("evaluate", f"no spBLEU: {missing_model(SPBLEU_TOKENIZER)}")


def _comet(folder: Path | None, task: Task, results: Sequence[DirectionResult]) -> dict[str, float]:
    if folder is None:
        return {}
    from smoe_ds.evaluate.comet import comet_scores

    translations = {result.direction: [one.text for one in result.translations] for result in results}
    gpu = task.model.device.type == "cuda"
    return comet_scores(
        folder, task.texts, translations, gpu=gpu, progress=lambda name: note("evaluate", f"{name}: COMET")
    )


def _note_replaced(output: Path, task: Task) -> None:
    from smoe_ds.evaluate.evaluate_model import conditions_of
    from smoe_ds.evaluate.replaced import replaced_scores

    other = replaced_scores(output, conditions_of(task), [text.direction for text in task.texts])
    if other:
        note(
            "evaluate",
            f"replaces the scores in {output} and their translations, which were of {other}; to keep both, stop now "
            "and name another file with --output",
        )


def _translations_folder(output: Path) -> Path:
    """The folder for the translations, by the file for the scores."""
    from smoe_ds.run_names import SCORES, TRANSLATIONS

    return output.parent / (TRANSLATIONS if output.name == SCORES else f"{output.stem}.{TRANSLATIONS}")


def _checked_places(output: Path) -> Path:
    """The folder for the translations, made if both places can be used."""
    from smoe_ds.errors import DataError
    from smoe_ds.run_names import SCORES

    if output.is_dir():
        raise DataError(f"--output {output}: is a folder; name a file, e.g. {output / SCORES}")
    check_replaceable(output, ("directions", "signatures"), "the scores of an evaluation")
    return make_folder(_translations_folder(output))
