"""``smoe-ds serve RUN``: a page and a JSON API on this machine that translate with a trained model."""

from __future__ import annotations

import argparse
import ipaddress
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.cli.arguments import add_model_arguments
from smoe_ds.cli.messages import note
from smoe_ds.cli.open_model import all_overrides, open_run, trained_directions
from smoe_ds.cli.values import port_number, positive, positive_seconds
from smoe_ds.errors import DataError, LaunchError

if TYPE_CHECKING:
    from smoe_ds.decode.load import TrainedModel
    from smoe_ds.serve.settings import Settings

HELP = "serve a trained model: a page and a JSON API"
TOKEN_VARIABLE = "SMOE_DS_TOKEN"
_LIBRARIES = {
    "fastapi": "fastapi", "uvicorn": "uvicorn", "prometheus_client": "prometheus-client", "sentencex": "sentencex",
    "jinja2": "jinja2",
}  # fmt: skip
_SHORTEST_TOKEN = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_model_arguments(parser)
    where = parser.add_argument_group("where")
    where.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: 127.0.0.1: this machine only); any other one needs a token",
    )
    where.add_argument(
        "--port", type=port_number, default=8000, metavar="N", help="port; 0 takes a free one (default: 8000)"
    )
    where.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"file with the token that every request must carry as 'Authorization: Bearer TOKEN' (default: the "
        f"environment variable {TOKEN_VARIABLE}, or no token)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes that translate; each holds the model, and they share the cores (default: on a CPU one for "
        "every two cores, at most 4 and no more than half of the free memory holds; on a GPU 1)",
    )
    _add_limits(parser.add_argument_group("limits; a request beyond one gets an answer that says so"))


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-characters", type=positive, default=20_000, metavar="N", help="of a text (default: 20000)"
    )
    group.add_argument("--max-sentences", type=positive, default=500, metavar="N", help="of a text (default: 500)")
    group.add_argument(
        "--max-requests", type=positive, default=256, metavar="N", help="that are translated or wait (default: 256)"
    )
    group.add_argument(
        "--timeout",
        type=positive_seconds,
        default=60.0,
        metavar="SECONDS",
        help="until a text is translated; a worker that takes longer over a batch is replaced (default: 60)",
    )


def run(args: argparse.Namespace) -> int:
    """Serves until it is told to end."""
    missing = [name for module, name in _LIBRARIES.items() if find_spec(module) is None]
    if missing:
        raise LaunchError(f"smoe-ds serve needs {', '.join(missing)}; run pip install -e '.[serve]' in the checkout")
    settings = _settings(args)
    from smoe_ds.serve.server import serve

    serve(settings, lambda text: note("serve", text))
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    """What the arguments say; checked before anything is started."""
    from smoe_ds.data.framing import Framing
    from smoe_ds.serve.settings import Known, Limits, Model, Settings

    token = _token(args)
    model = open_run(args)
    checkpoint = model.checkpoint(args.checkpoint)
    directions = trained_directions(model)
    return Settings(
        model=Model(
            str(args.run_dir), str(checkpoint), tuple(all_overrides(args)), args.dtype, str(model.device)
        ),
        known=Known(
            name=f"{args.run_dir.resolve().name}, step {model.step(checkpoint)}",
            sources=model.tokenizer.languages,
            targets=tuple(model.targets or model.tokenizer.languages),
            directions=None if directions is None else tuple(directions),
            n_best=model.config.smoe.decode.beam_size,
            has_strata=not model.config.smoe.moe.is_dense,
            reads_source=Framing.of(model.config.smoe.data).names_source_language,
        ),
        host=args.host,
        port=args.port,
        workers=_workers(args.workers, model),
        token=token,
        limits=Limits(args.max_characters, args.max_sentences, args.max_requests, args.timeout),
    )  # fmt: skip


def _workers(asked: int | None, model: TrainedModel) -> int:
    """How many there are to be; says so if that is too many for this machine."""
    from smoe_ds.config.number_formats import torch_dtype
    from smoe_ds.doctor.host_memory import memory_limits
    from smoe_ds.parallel import cores
    from smoe_ds.serve.workers import Room

    free = memory_limits(os.environ)[0].free
    size = model.num_parameters * torch_dtype(model.dtype).itemsize  # int8 is made of float32
    if model.device.type == "cpu" and model.dtype == "float32":  # packed, the shared matrix lies there twice
        size += 4 * model.tokenizer.vocab_size * model.config.smoe.model.d_model
    room = Room(cores.cores_here().allowed, free, size, gpu=model.device.type == "cuda")
    if asked is None:
        return room.default_workers()
    for text in room.warnings(asked):
        note("serve", text)
    return asked


def _token(args: argparse.Namespace) -> str | None:
    """The token of the file or the environment.

    Raises:
        DataError: it is too short, or the file cannot be read.
        LaunchError: the service would listen for other machines without one.
    """
    source, token = _given_token(args.token_file)
    if token is None:
        if not _is_loopback(args.host):
            raise LaunchError(
                f"--host {args.host}: other machines could use the service; give it a token with --token-file FILE or "
                f"{TOKEN_VARIABLE}"
            )
        return None
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise DataError(
            f"{source}: expected a token of at least {_SHORTEST_TOKEN} letters and digits; make one with "
            "`openssl rand -hex 32`"
        )
    return token


def _given_token(file: Path | None) -> tuple[str, str | None]:
    """Where the token comes from, and the token; None without one."""
    if file is None:
        return TOKEN_VARIABLE, os.environ.get(TOKEN_VARIABLE)
    try:
        return str(file), file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        return str(file), ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
