"""``smoe-ds evaluate RUN``: BLEU and chrF++ per direction as a table and as JSON, and some translations to look at.

Started as several ranks (``srun``, ``torchrun``, ``deepspeed``, ``mpirun``) it spreads the directions over them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoe_ds.cli.arguments import add_model_arguments, positive
from smoe_ds.cli.translate import open_run
from smoe_ds.run_names import SCORES, TRANSLATIONS

if TYPE_CHECKING:
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.decode.load import TrainedModel
    from smoe_ds.evaluate.evaluation import Average, DirectionResult, HeldOut
    from smoe_ds.evaluate.metrics import Metrics
    from smoe_ds.parallel.env import Env

HELP = "translate held-out text and score it"
ZERO_SHOT = "zero-shot"
_WAIT = 7 * 86_400.0  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    from smoe_ds.evaluate.metrics import TOKENIZERS

    add_model_arguments(parser)
    parser.add_argument("--split", choices=["test", "valid"], default="test", help="default: test")
    parser.add_argument(
        "--directions",
        metavar="A-B,...",
        help=f"default: those the run was trained on; {ZERO_SHOT}: those without training text",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="prepared corpus; default: smoe.data.path of the run")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N sentences of each direction")
    parser.add_argument("--untrained", action="store_true", help="also score the model as it was before training")
    parser.add_argument("--samples", type=int, default=5, metavar="N", help="translations to print (default 5)")
    parser.add_argument(
        "--tokenize", choices=TOKENIZERS, default="13a", help="BLEU's tokenizer; flores200 gives spBLEU (default 13a)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.json",
        help="default: RUN/scores.json; translations go into the folder translations/ beside it",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints the table, writes the files; ranks share the directions, and the first one does the rest."""
    from smoe_ds.parallel.discover import discover

    env = discover()
    if env.world_size == 1:
        return _run(args, env)
    from smoe_ds.parallel.process_group import shutdown

    env = _join(args, env)
    code = _run(args, env)
    shutdown()
    return code


def _join(args: argparse.Namespace, env: Env) -> Env:
    """Meets the other ranks. They are waited for until they are done: whoever started them limits the time."""
    import torch

    from smoe_ds.parallel.process_group import init_distributed

    return init_distributed(env, torch.device(_device(args, env) or "cpu"), timeout=_WAIT)


def _device(args: argparse.Namespace, env: Env) -> str | None:
    """This rank's GPU; None where there is but one process, which takes what is there, or no GPU."""
    import torch

    from smoe_ds.parallel.device import gpu_of

    if env.world_size == 1 or args.device == "cpu" or not torch.cuda.is_available():
        return None
    return f"cuda:{gpu_of(env.local_rank, torch.cuda.device_count())}"


def _run(args: argparse.Namespace, env: Env) -> int:
    from smoe_ds.errors import DataError
    from smoe_ds.evaluate.metrics import Metrics

    folder = open_run(args, _device(args, env))
    metrics = Metrics(args.tokenize)
    texts = _held_out(folder, args)
    checkpoint = folder.checkpoint(args.checkpoint)
    output = args.output or folder.files.scores
    if output.is_dir():
        raise DataError(f"--output {output}: is a folder; name a file, e.g. {output / SCORES}")
    translations = _make_folder(output.parent / TRANSLATIONS)
    results = _evaluate(folder, checkpoint, texts, metrics, translations, args, env)
    if env.rank > 0:
        return 0
    samples = _samples(texts, results, args.samples)
    report = _report(folder, checkpoint, results, samples, args) | {"signatures": metrics.signatures}
    _write_json(output, report)
    print(_as_text(results, samples, metrics.bleu_name, metrics.signatures), flush=True)
    print(f"smoe-ds evaluate: scores in {output}, translations in {translations}", file=sys.stderr)
    return 0


def _held_out(folder: TrainedModel, args: argparse.Namespace) -> list[HeldOut]:
    """The text of every direction, read and checked before the model is."""
    from smoe_ds.evaluate.evaluation import read_held_out

    corpus = open_corpus(folder, args.data)
    directions = chosen_directions(folder.config.smoe.data.directions, corpus, args.directions, args.split)
    texts = [read_held_out(corpus, args.split, name, args.limit) for name in dict.fromkeys(directions)]
    for text in texts:
        folder.tokenizer.language_id(text.target_language)
    return texts


def chosen_directions(trained: Sequence[str] | None, corpus: Corpus, asked: str | None, split: str) -> list[str]:
    """The directions to score: those asked for, or the trained ones that have text in the split."""
    from smoe_ds.errors import DataError

    scored = corpus.directions_of(split)
    if asked is None:
        trained = trained or corpus.directions_of("train")
        without = [name for name in trained if name in corpus.directions and name not in scored]
        if without:
            print(f"smoe-ds evaluate: no {split} text, left out: {', '.join(without)}", file=sys.stderr)
        directions = [name for name in trained if name not in without]
    else:
        zero_shot = [name for name in scored if name not in corpus.directions_of("train")]
        names = [name.strip() for name in asked.split(",") if name.strip()]
        directions = [each for name in names for each in (zero_shot if name == ZERO_SHOT else [name])]
    if not directions:
        what = f"no {split} text of the trained directions" if asked is None else f"--directions {asked!r}: names none"
        raise DataError(f"{corpus.path}: {what}; the corpus has {', '.join(scored) or 'no such text'}")
    return directions


def open_corpus(folder: TrainedModel, data: Path | None) -> Corpus:
    """The prepared corpus: the one named, or that of the run."""
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.errors import DataError

    path = data or Path(folder.config.smoe.data.path)
    if not path.is_dir():
        where = "--data" if data else f"smoe.data.path of {folder.files.config}"
        raise DataError(f"{path}: no such folder ({where}); name the prepared corpus with --data DIR")
    return Corpus(path, verify=False)


def _evaluate(
    folder: TrainedModel,
    checkpoint: Path,
    texts: Sequence[HeldOut],
    metrics: Metrics,
    translations: Path,
    args: argparse.Namespace,
    env: Env,
) -> list[DirectionResult]:
    """The results of all directions, each made by one rank."""
    from smoe_ds.evaluate.evaluation import evaluate_direction, write_translations
    from smoe_ds.evaluate.spread import gather_results, shares

    mine = shares([sum(map(len, text.sources)) for text in texts], env.world_size)[env.rank]
    results = {}
    if mine:
        translator = folder.translator(checkpoint)
        untrained = folder.untrained_translator() if args.untrained else None
    for number in mine:
        text = texts[number]

        def progress(done: int, rate: float, number: int = number, text: HeldOut = text) -> None:
            place = f"[{number + 1}/{len(texts)}] {text.direction}"
            print(f"{place}: {done} of {len(text.sources)} sentences, {rate:.1f} sentences/s", file=sys.stderr)

        results[number] = evaluate_direction(text, translator, untrained, metrics, progress)
        write_translations(translations, args.split, results[number])
    return gather_results(results)


def _samples(texts: Sequence[HeldOut], results: Sequence[DirectionResult], num: int) -> list[dict[str, str]]:
    from smoe_ds.evaluate.evaluation import sample_places

    return [
        {
            "direction": texts[i].direction,
            "source": texts[i].sources[line],
            "translation": results[i].translations[line].text,
            "reference": texts[i].references[line],
        }
        for i, line in sample_places([len(text.sources) for text in texts], num)
    ]


def _report(
    folder: TrainedModel,
    checkpoint: Path,
    results: Sequence[DirectionResult],
    samples: list[dict[str, str]],
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Everything, as JSON."""
    from smoe_ds.evaluate.evaluation import averages

    return {
        "run": str(folder.folder),
        "checkpoint": {"asked": args.checkpoint, "folder": checkpoint.name, "step": folder.step(checkpoint)},
        "split": args.split,
        "limit": args.limit,
        "decode": {**folder.config.smoe.decode.model_dump(mode="json"), "dtype": args.dtype},
        "directions": {result.direction: _direction_report(result, args.split) for result in results},
        "averages": {average.name: dataclasses.asdict(average) for average in averages(results)},
        "samples": samples,
    }


def _direction_report(result: DirectionResult, split: str) -> dict[str, Any]:
    return {
        "sentences": len(result.translations),
        **dataclasses.asdict(result.score),
        "copied_source": dataclasses.asdict(result.copied),
        "untrained": dataclasses.asdict(result.untrained) if result.untrained else None,
        "empty": result.count("empty"),
        "truncated": result.count("truncated"),
        "seconds": round(result.seconds, 3),
        "translations": f"{TRANSLATIONS}/{split}.{result.direction}.txt",
    }


def _as_text(
    results: Sequence[DirectionResult], samples: list[dict[str, str]], bleu_name: str, signatures: dict[str, str]
) -> str:
    """The table, the signatures and the samples."""
    from smoe_ds.evaluate.evaluation import averages
    from smoe_ds.report.tables import RULE, text_table

    means = averages(results)
    rows = [*map(_row, results), *([RULE] if means else []), *map(_average_row, means)]
    header = ["direction", "sentences", bleu_name, "chrF++", f"{bleu_name} copied source", f"{bleu_name} untrained"]
    lines = [text_table(header, rows), ""]
    lines += [f"{name}: {signature}" for name, signature in signatures.items()]
    for number, sample in enumerate(samples, start=1):
        lines += ["", f"sample {number}, {sample['direction']}"]
        lines += [f"  {part:<11} {sample[part]}" for part in ("source", "translation", "reference")]
    return "\n".join(lines)


def _row(result: DirectionResult) -> list[Any]:
    untrained = result.untrained.bleu if result.untrained else None
    return [
        result.direction,
        len(result.translations),
        result.score.bleu,
        result.score.chrf,
        result.copied.bleu,
        untrained,
    ]


def _average_row(mean: Average) -> list[Any]:
    name = f"mean of {mean.directions} {mean.name}"
    return [name, "", mean.bleu, mean.chrf, mean.copied_bleu, mean.untrained_bleu]


def _make_folder(path: Path) -> Path:
    """Made before the work begins, so that a place that cannot be written costs no time."""
    from smoe_ds.errors import DataError

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be made: {error.strerror}; choose another place with --output") from error
    return path


def _write_json(path: Path, value: Any) -> None:
    from smoe_ds.errors import DataError

    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}; choose another place with --output") from error
