"""``smoe-ds analyze RUN``: how a trained model routes text: requested capacity, experts, languages, loads.

Started as several ranks (``srun``, ``torchrun``, ``deepspeed``, ``mpirun``) it spreads the text over them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.cli.arguments import add_checkpoint, add_device, add_directions, add_overrides, add_trained_model
from smoe_ds.cli.files import make_folder, write_text
from smoe_ds.cli.messages import note
from smoe_ds.cli.values import positive
from smoe_ds.data.splits import SPLITS

if TYPE_CHECKING:
    from smoe_ds.analysis.routing_analysis import RoutingAnalysis
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.decode.load import TrainedModel
    from smoe_ds.parallel.env import Env

HELP = "show how a trained model routes text: requested capacity, experts per language, loads of the strata"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = (
        "Under a launcher (srun, torchrun, deepspeed, mpirun) the ranks share the text of each direction. Each holds "
        "the whole model, whatever smoe.moe.ep_size is. A dense model has losses alone."
    )
    add_trained_model(parser)
    add_checkpoint(parser)
    parser.add_argument("--split", choices=SPLITS, default="valid", help="which text to read (default: valid)")
    add_directions(parser, "directions to read, for example eng-nso,nso-eng (default: those the run was trained on)")
    parser.add_argument("--limit", type=positive, metavar="N", help="read only the first N sentences per direction")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for tables (CSV), analysis.json and figures (default: RUN/analysis)",
    )
    add_device(parser, "where to compute")
    add_overrides(parser, "change one key of the run, for example smoe.data.max_tokens=2048; may be repeated")


def run(args: argparse.Namespace) -> int:
    """Analyses, writes the files and prints the page; ranks share the text, and the first one does the rest."""
    from smoe_ds.cli.open_model import on_ranks

    return on_ranks(args, _run)


def _run(args: argparse.Namespace, env: Env) -> int:
    from smoe_ds.analysis.pruning import check_vocabulary
    from smoe_ds.analysis.routing_analysis import analyse_on_ranks
    from smoe_ds.cli.open_model import check_device, chosen_directions, rank_device
    from smoe_ds.decode.load import open_trained
    from smoe_ds.report.routing import routing_page

    check_device(args.device)
    model = open_trained(args.run_dir, args.overrides, device=rank_device(args, env) or args.device)
    corpus, directions = chosen_directions("analyze", model, args, args.directions, args.split)
    check_vocabulary(model.tokenizer, corpus)
    for direction in directions:
        _check_direction(model, corpus, args.split, direction)
    checkpoint = model.checkpoint(args.checkpoint)
    output = _folder(args.output or model.files.analysis)
    translator = model.translator(checkpoint)

    def progress(direction: str) -> None:
        if env.rank == 0:
            note("analyze", f"{direction}: read")

    share = (env.rank, env.world_size)
    analysis = analyse_on_ranks(translator, corpus, args.split, directions, args.limit, progress, *share)
    if analysis is None:
        return 0
    about = {"step": model.step(checkpoint), "source": model.source(checkpoint), "data": str(corpus.path.resolve())}
    _write(output, analysis, about)
    print(routing_page(analysis).text(), flush=True)
    note("analyze", f"wrote all numbers to {output}")
    return 0


def _check_direction(model: TrainedModel, corpus: Corpus, split: str, direction: str) -> None:
    """Refuses a direction before the weights are read."""
    from smoe_ds.errors import DataError

    if not len(corpus.sentences(split, direction)):
        known = ", ".join(corpus.directions_of(split)) or "none"
        raise DataError(f"{corpus.path}: no {split} text of {direction}; choose among {known}, or another --split")
    model.check_languages(*direction.split("-"))


def _folder(output: Path) -> Path:
    """The folder for the results, which may hold those of an earlier analysis but nothing else."""
    from smoe_ds.analysis.analysed_capacity import ANALYSIS
    from smoe_ds.errors import DataError
    from smoe_ds.report.routing import TABLES
    from smoe_ds.report.routing_figures import FIGURES

    if output.exists() and not output.is_dir():
        raise DataError(f"--output {output}: is a file; name a folder")
    own = {*FIGURES, *(f"{table}.csv" for table in TABLES)}  # one that was interrupted has these alone
    held = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if ANALYSIS not in held and held - own:
        raise DataError(f"--output {output}: exists and does not hold an analysis; choose another folder")
    return make_folder(output)


def _write(output: Path, analysis: RoutingAnalysis, about: dict[str, Any]) -> None:
    """Tables and JSON; figures where matplotlib is installed; nothing of an earlier analysis is left."""
    from smoe_ds.analysis.analysed_capacity import ANALYSIS
    from smoe_ds.report.routing import TABLES, routing_tables
    from smoe_ds.report.routing_figures import FIGURES, draw_figures, has_matplotlib

    (output / ANALYSIS).unlink(missing_ok=True)  # first: a folder with it is whole
    for name in (*FIGURES, *(f"{table}.csv" for table in TABLES)):
        (output / name).unlink(missing_ok=True)
    for name, table in routing_tables(analysis).items():
        write_text(output / f"{name}.csv", table.csv())
    if has_matplotlib():
        draw_figures(analysis, output)
    else:
        note("analyze", "no figures, since matplotlib is not installed; `pip install matplotlib` and run this again")
    write_text(output / ANALYSIS, json.dumps(about | analysis.as_json(), indent=1, ensure_ascii=False) + "\n")
