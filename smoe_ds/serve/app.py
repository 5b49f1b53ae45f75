"""The application: what each path answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from smoe_ds import __version__
from smoe_ds.report.token_view import SCRIPT, STYLE
from smoe_ds.serve.api_page import api_page
from smoe_ds.serve.errors import RefusedError
from smoe_ds.serve.guard import App, Guard
from smoe_ds.serve.in_flight import Gone, InFlight
from smoe_ds.serve.metrics import Metrics
from smoe_ds.serve.pool import Pool
from smoe_ds.serve.schema import (
    Health,
    Languages,
    Problem,
    TokensAnswer,
    TokensRequest,
    TranslateAnswer,
    TranslateRequest,
)
from smoe_ds.serve.settings import Settings
from smoe_ds.serve.tokens import TokenPaths
from smoe_ds.serve.translate import Translation
from smoe_ds.text_line import spelled_out

_PAGE = Path(__file__).parent / "page"
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/tokens.js": ("tokens.js", "text/javascript"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
}
_TOKEN_VIEW = {"/token_view.css": (STYLE, "text/css"), "/token_view.js": (SCRIPT, "text/javascript")}
"""What the report has in its own pages."""
_REQUESTS: dict[str, type[BaseModel]] = {"/translate": TranslateRequest, "/tokens": TokensRequest}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body is no JSON."},
    401: {"model": Problem, "description": "The token is missing or wrong."},
    413: {"model": Problem, "description": "Too many characters or sentences."},
    422: {"model": Problem, "description": "An unknown language or field, no text, or a value out of range."},
    429: {"model": Problem, "description": "Too many requests in flight; Retry-After says when to come back."},
    503: {"model": Problem, "description": "No worker is running."},
    504: {"model": Problem, "description": "It took too long."},
}
_NO_TOKENS: dict[int | str, dict[str, Any]] = {
    422: {
        "model": Problem,
        "description": "The model is dense, more than one sentence, or an unknown language or field.",
    }
}
_SICK: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "It cannot translate now."}}


def make_app(settings: Settings, pool: Pool, metrics: Metrics) -> App:
    """The application with its guard.

    Args:
        settings: of the service.
        pool: the workers.
        metrics: told what happens, and read at /metrics.
    """
    app = FastAPI(
        title="smoe-ds serve",
        version=__version__,
        description="Translation by a trained model. Errors are JSON too: their detail says what is wrong in one line. "
        "Two are plain text: 503 for too many connections, and 400 for what is not HTTP.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    in_flight = InFlight(pool, settings.limits, metrics)
    _add_translation(app, settings, in_flight, metrics)
    _add_tokens(app, settings, in_flight)
    _add_languages(app, settings)
    _add_state(app, settings, pool, metrics)
    _add_pages(app)
    _add_errors(app)
    metrics.watch("smoe_sentences_waiting", "Sentences that wait for a worker", lambda: pool.waiting)
    metrics.watch("smoe_workers", "Workers that can translate", lambda: len(pool.pids))
    paths = frozenset(
        {*_FILES, *_TOKEN_VIEW, *_REQUESTS, "/languages", "/health", "/metrics", "/docs", "/openapi.json"}
    )
    return Guard(app, settings.limits, metrics, settings.token, settings.host, paths)


def _add_translation(app: FastAPI, settings: Settings, in_flight: InFlight, metrics: Metrics) -> None:
    translation = Translation(in_flight, settings.known, settings.limits, metrics)

    @app.post(
        "/translate",
        response_model=TranslateAnswer,
        responses=_PROBLEMS,
        summary="Translate a text",
        response_description="The translation.",
    )
    async def translate(body: TranslateRequest, request: Request) -> Any:
        return _reply(await translation.answer(body, _gone(request)))


def _add_tokens(app: FastAPI, settings: Settings, in_flight: InFlight) -> None:
    token_paths = TokenPaths(in_flight, settings.known, settings.limits)

    @app.post(
        "/tokens",
        response_model=TokensAnswer,
        responses=_PROBLEMS | _NO_TOKENS,
        summary="Show what each token of a sentence took",
        response_description="The token view.",
    )
    async def tokens(body: TokensRequest, request: Request) -> Any:
        return _reply(await token_paths.answer(body, _gone(request)))


def _gone(request: Request) -> Gone:
    """Returns when the client has gone."""

    async def wait() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return wait


def _reply(answer: BaseModel | None) -> Response:
    return JSONResponse(answer.model_dump()) if answer is not None else Response(status_code=499)


def _add_languages(app: FastAPI, settings: Settings) -> None:
    known, limits = settings.known, settings.limits

    @app.get("/languages", summary="Languages and limits", response_description="What can be asked for.")
    async def languages() -> Languages:
        return Languages(
            model=known.name,
            sources=list(known.sources),
            targets=list(known.targets),
            directions=None if known.directions is None else list(known.directions),
            n_best=known.n_best,
            has_strata=known.has_strata,
            reads_source=known.reads_source,
            max_characters=limits.characters,
            max_sentences=limits.sentences,
        )


def _add_state(app: FastAPI, settings: Settings, pool: Pool, metrics: Metrics) -> None:
    @app.get(
        "/health",
        response_model=Health,
        responses=_SICK,
        summary="Whether it can translate",
        response_description="It can translate.",
    )
    async def health() -> Any:
        status = "ok" if pool.pids else "failed" if pool.broken else "starting"
        state = Health(status=status, workers=len(pool.pids), waiting=pool.waiting)
        return JSONResponse(state.model_dump(), 200 if status == "ok" else 503)

    @app.get(
        "/metrics",
        response_class=Response,
        summary="Figures for Prometheus",
        response_description="Prometheus' text format.",
    )
    async def figures() -> Response:
        return Response(metrics.as_text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_pages(app: FastAPI) -> None:
    for path, (name, kind) in _FILES.items():
        app.get(path, include_in_schema=False)(_file((_PAGE / name).read_bytes(), kind))
    for path, (text, kind) in _TOKEN_VIEW.items():
        app.get(path, include_in_schema=False)(_file(text.encode(), kind))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(api_page(app.openapi()))


def _file(content: bytes, kind: str) -> Callable[[], Response]:
    def send() -> Response:
        return Response(content, media_type=kind)

    return send


def _add_errors(app: FastAPI) -> None:
    """Every error is one line in ``detail``."""

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        headers = {"Retry-After": "1"} if error.status in (429, 503) else None
        return JSONResponse({"detail": error.detail}, error.status, headers)

    @app.exception_handler(Exception)
    async def ours(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "the service made a mistake; see its log"}, 500)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = error.errors()
        status = 400 if any(one["type"] == "json_invalid" for one in errors) else 422
        known = _fields(_REQUESTS[request.url.path])
        return JSONResponse({"detail": "; ".join(_described(one, known) for one in errors)}, status)

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> JSONResponse:
        detail = {
            404: "there is nothing here; /docs describes the API",
            405: f"{request.method} is not possible here; /docs describes the API",
        }.get(error.status_code, str(error.detail))
        return JSONResponse({"detail": detail}, error.status_code, error.headers)


def _fields(request: type[BaseModel]) -> str:
    return ", ".join(field.alias or name for name, field in request.model_fields.items())


def _described(error: Mapping[str, Any], known: str) -> str:
    """One problem of a body: which field, and what is wrong with it.

    Args:
        error: as pydantic tells it.
        known: fields of the request.
    """
    if error["type"] == "json_invalid":
        return f"the body is no JSON: {error.get('ctx', {}).get('error', error['msg'])}"
    field = spelled_out(".".join(str(part) for part in error["loc"][1:])) or "the body"
    if error["type"] == "extra_forbidden":
        return f"{field[:60]}: unknown field; known: {known}"
    return f"{field[:60]}: {error['msg'][0].lower()}{error['msg'][1:]}"
