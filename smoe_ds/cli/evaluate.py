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
from smoe_ds.cli.messages import note
from smoe_ds.cli.open_model import joined, open_run, rank_device, read_texts
from smoe_ds.cli.values import positive

if TYPE_CHECKING:
    from smoe_ds.evaluate.scores import Evaluation
    from smoe_ds.parallel.env import Env

HELP = "translate held-out text and score it with BLEU and chrF++"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    from smoe_ds.evaluate.tokenizers import TOKENIZERS

    parser.epilog = "Under a launcher (srun, torchrun, deepspeed, mpirun) the ranks share the directions."
    add_model_arguments(parser)
    parser.add_argument(
        "--split", choices=["test", "valid"], default="test", help="which held-out text to score (default: test)"
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
        "--tokenize",
        choices=TOKENIZERS,
        help="BLEU's tokenizer for all directions; flores200 gives spBLEU (default: by target language: zh for "
        "Chinese, ja-mecab and ko-mecab for Japanese and Korean if they are installed, else char; char for other "
        "languages written without spaces; 13a for all the rest)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.json",
        help="file for the scores; the translations go to the folder translations/ beside it (default: "
        "RUN/scores.json)",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints the table, writes the files; ranks share the directions, and the first one does the rest."""
    from smoe_ds.parallel.launchers import discover
    from smoe_ds.parallel.threads import choose_threads

    env = discover()
    choose_threads(env.local_world_size)
    if env.world_size == 1:
        return _run(args, env)
    from smoe_ds.parallel.process_group import shutdown

    env = joined(args, env)
    code = _run(args, env)
    shutdown()
    return code


def _run(args: argparse.Namespace, env: Env) -> int:
    from smoe_ds.evaluate.evaluate_model import Task, evaluate_model, evaluation_of
    from smoe_ds.evaluate.tokenizers import check_tokenizer
    from smoe_ds.report.scores import scores_page
    from smoe_ds.weights.weights_folder import as_text

    model = open_run(args, rank_device(args, env))
    if args.tokenize:
        check_tokenizer(args.tokenize)
    texts = read_texts("evaluate", model, args, args.directions, args.split)
    model.checkpoint(args.checkpoint)  # one that is not there is refused before anything is written
    output, translations = _places(args.output or model.files.scores)
    task = Task(model, args.checkpoint, texts, args.split, args.limit, args.tokenize, args.untrained, translations)

    def progress(number: int, done: int, rate: float) -> None:
        text = texts[number]
        place = f"[{number + 1}/{len(texts)}] {text.direction}"
        print(f"{place}: {done} of {len(text.sources)} sentences, {rate:.1f} sentences/s", file=sys.stderr)

    results = evaluate_model(task, env.rank, env.world_size, progress)
    if env.rank > 0:
        return 0
    evaluation = evaluation_of(task, results, args.samples)
    _note_cut(evaluation, model.config.smoe.model.max_positions)
    write_text(output, as_text(evaluation.as_json()))
    print(scores_page(evaluation).text(), flush=True)
    note("evaluate", f"wrote the scores to {output} and the translations to {translations}")
    return 0


def _note_cut(evaluation: Evaluation, max_positions: int) -> None:
    for one in evaluation.directions:
        if one.truncated:
            note(
                "evaluate",
                f"{one.direction}: {one.truncated} of {one.sentences} sources are longer than the {max_positions} "
                "tokens that the model takes (smoe.model.max_positions); only their beginning is translated",
            )


def _places(output: Path) -> tuple[Path, Path]:
    """The file for the scores and the folder for the translations."""
    from smoe_ds.errors import DataError
    from smoe_ds.run_names import SCORES, TRANSLATIONS

    if output.is_dir():
        raise DataError(f"--output {output}: is a folder; name a file, e.g. {output / SCORES}")
    check_replaceable(output, ("directions", "signatures"), "the scores of an evaluation")
    return output, make_folder(output.parent / TRANSLATIONS)
