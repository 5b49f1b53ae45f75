"""``smoe-ds import``: a folder of Hugging Face's transformers, or a checkpoint of DeepSpeed's own, as a run folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_output_run, add_run_arguments
from smoe_ds.cli.messages import note

if TYPE_CHECKING:
    from smoe_ds.config.run import RunConfig
    from smoe_ds.data.tokenizer import Tokenizer

HELP = "import a model of Hugging Face's transformers (M2M100, NLLB), or a checkpoint that DeepSpeed saved"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = (
        "Only the weights are imported: not Adam's state, the position in the data, or the loss scale. RUN.json is "
        "needed for DeepSpeed's checkpoints; for a folder of transformers it gives the settings beside the model's."
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="FOLDER",
        help="folder of transformers, with config.json, weights and tokenizer; or the one given to "
        "engine.save_checkpoint",
    )
    add_run_arguments(parser, optional=True)
    add_output_run(parser)
    parser.add_argument(
        "--trust",
        action="store_true",
        help="say that you trust the files if they are pickled: reading a pickle can run any program hidden in it",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        help="SentencePiece model the weights were trained with (default: sentencepiece.bpe.model in FOLDER, or for "
        "DeepSpeed's checkpoints that of the corpus in smoe.data.path)",
    )
    _add_of_transformers(parser)
    deepspeed = parser.add_argument_group("checkpoints of DeepSpeed's")
    deepspeed.add_argument(
        "--tag", help="which checkpoint in the folder (default: the one that the folder's file latest names)"
    )


def _add_of_transformers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("folders of transformers")
    group.add_argument(
        "--languages",
        type=Path,
        metavar="FILE",
        help="names of languages here, a line each: their code and ours, for example 'cat_Latn cat' (default: the part "
        "before the underscore where it is clear)",
    )
    group.add_argument(
        "--add-language",
        action="append",
        default=[],
        metavar="LANG[=LANG,...]",
        help="add a language to the vocabulary; its token starts as the mean of the related ones named, or of all; may "
        "be repeated",
    )
    group.add_argument(
        "--add-pieces",
        type=Path,
        metavar="FILE",
        help="add pieces to the vocabulary, and the characters in them: text with a piece a line, a .vocab of "
        "SentencePiece, or a SentencePiece model (*.model) whose pieces are added",
    )
    group.add_argument(
        "--pieces-from",
        choices=("parts", "all"),
        help="what a new piece starts as: the mean of the pieces that spell it so far, or of all pieces (default: "
        "parts); a new character starts as the mean of its bytes where the vocabulary has them, else of all",
    )


def run(args: argparse.Namespace) -> int:
    """Reads, checks, writes."""
    from smoe_ds.huggingface.folder import is_transformers_folder
    from smoe_ds.parallel.threads import choose_threads
    from smoe_ds.weights.weights_folder import check_free

    choose_threads(1)  # before PyTorch is imported
    check_free(args.output)
    if is_transformers_folder(args.source):
        _of_transformers(args)
    else:
        _of_deepspeed(args)
    return 0


def _of_transformers(args: argparse.Namespace) -> None:
    from smoe_ds.errors import ConfigError
    from smoe_ds.huggingface.import_folder import Request, import_folder
    from smoe_ds.huggingface.new_pieces import read_pieces
    from smoe_ds.huggingface.tokenizer_model import Added
    from smoe_ds.report.new_models import taken_text

    if args.tag is not None:
        raise ConfigError(f"--tag: {args.source} is a folder of transformers, which has no tags; leave it out")
    if args.pieces_from is not None and args.add_pieces is None:
        raise ConfigError("--pieces-from: there are no new pieces; name some with --add-pieces, or leave it out")
    request = Request(
        args.source,
        args.output,
        run_file=args.run_file,
        overrides=args.overrides,
        trust=args.trust,
        sentencepiece_file=args.tokenizer,
        table=args.languages,
        added=Added(
            _all_added(args.add_language),
            read_pieces(args.add_pieces) if args.add_pieces else (),
            from_parts=args.pieces_from != "all",
        ),
    )
    taken = import_folder(request)
    for text in taken.notes:
        note("import", f"note: {text}")
    note("import", taken_text(taken, args.source, args.output))


def _all_added(texts: list[str]) -> dict[str, list[str]]:
    from smoe_ds.errors import ConfigError

    added: dict[str, list[str]] = {}
    for language, related in map(_added, texts):
        if language in added:
            raise ConfigError(f"--add-language {language}: is given twice; name each language once")
        added[language] = related
    return added


def _added(text: str) -> tuple[str, list[str]]:
    """A new language and those it is related to."""
    from smoe_ds.data.tokenizer import LANGUAGE_TOKEN, language_token
    from smoe_ds.errors import ConfigError

    language, _, related = text.partition("=")
    if not LANGUAGE_TOKEN.fullmatch(language_token(language)):
        raise ConfigError(f"--add-language {text}: expected a name of letters, such as lug, or lug=nya,swh")
    return language, [name.strip() for name in related.split(",") if name.strip()]


def _of_deepspeed(args: argparse.Namespace) -> None:
    from smoe_ds.checkpoints.weights_reader import misfit
    from smoe_ds.config import load_run
    from smoe_ds.decode.shape import model_shape
    from smoe_ds.errors import CheckpointError
    from smoe_ds.report.new_models import imported_text
    from smoe_ds.weights.deepspeed_files import find_checkpoint, read_deepspeed_checkpoint
    from smoe_ds.weights.weights_folder import write_weights_run

    _check_arguments_of_deepspeed(args)
    config = load_run(args.run_file, args.overrides)
    folder = find_checkpoint(args.source, args.tag)
    tokenizer = _tokenizer(args.tokenizer, config)
    shape = model_shape(config.smoe, tokenizer.vocab_size)
    found = read_deepspeed_checkpoint(folder, trust=args.trust)
    if problem := misfit(shape.shapes, {name: tuple(weight.shape) for name, weight in found.weights.items()}):
        raise CheckpointError(f"{folder}: does not fit the model of {args.run_file}: {problem}")
    origin = {
        "made_by": "smoe-ds import",
        "source": str(folder.resolve()),
        "written_by": f"deepspeed {found.written_by}",
        "precision": found.precision,
    }
    write_weights_run(
        args.output,
        config.to_dict(),
        tokenizer.model_file,
        found.step,
        shape.shapes,
        lambda name: found.weights[name].contiguous(),
        origin,
    )
    note("import", imported_text(found, folder, args.output))


def _check_arguments_of_deepspeed(args: argparse.Namespace) -> None:
    from smoe_ds.errors import CheckpointError, ConfigError

    if args.run_file is None:
        raise CheckpointError(
            f"{args.source}: has no config.json of transformers; download the whole folder, or for a checkpoint of "
            "DeepSpeed's also name its RUN.json"
        )
    if any((args.languages, args.add_language, args.add_pieces, args.pieces_from)):
        raise ConfigError(
            f"--languages, --add-language, --add-pieces, --pieces-from: {args.source} is no folder of transformers; "
            "leave them out"
        )


def _tokenizer(file: Path | None, config: RunConfig) -> Tokenizer:
    from smoe_ds.data.corpus import Corpus
    from smoe_ds.data.tokenizer import Tokenizer

    return Tokenizer(file) if file else Corpus(Path(config.smoe.data.path), verify=False).tokenizer
