"""Services that tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.data.corpus import Corpus
from tests.helpers.browser import CHROMIUM
from tests.helpers.random_run import random_run
from tests.helpers.served import DEADLINE, Service, served
from tests.helpers.served_page import SIZES, Seen

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="session")
def service(run_dir: Path) -> Iterator[Service]:
    """One with one worker, and time for its requests on a slow machine too; else with all defaults."""
    with served(run_dir, "--timeout", f"{DEADLINE:g}") as running:
        yield running


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Iterator[Service]:
    """A model without strata, behind the token `TOKEN`."""
    run = random_run(tmp_path_factory.mktemp("dense"), corpus, moe={"strata": [], "num_experts": None})
    with served(run, SMOE_DS_TOKEN=TOKEN) as running:
        yield running


@pytest.fixture(scope="session")
def reading_run(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """A model that reads the language of its input."""
    data = {"source_language_token": "source", "target_language_token": "after_end"}
    return random_run(tmp_path_factory.mktemp("reading"), corpus, data=data)


@pytest.fixture(scope="session")
def reading(reading_run: Path) -> Iterator[Service]:
    """That model."""
    with served(reading_run) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Of one module: as long as playwright runs, its thread has a loop, and ``asyncio.run`` refuses."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(params=[("desk", "light"), ("phone", "dark")], ids="-".join)
def page(request: pytest.FixtureRequest, browser: Any, service: Service) -> Iterator[Any]:
    """An open page; in the end nothing is on its console, and nothing was asked for elsewhere."""
    size, scheme = request.param
    context = browser.new_context(
        viewport=SIZES[size], color_scheme=scheme, has_touch=size == "phone", base_url=service.url
    )
    page = context.new_page()
    seen = Seen(page, service.url)
    page.goto("/")
    page.wait_for_selector("#to option", state="attached")
    yield page
    context.close()
    assert (seen.errors, seen.elsewhere) == ([], [])
