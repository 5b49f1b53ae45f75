"""How a service starts and ends: what it refuses to start with, tokens, and signals while requests are in flight."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from smoe_ds.cli.main import main
from tests.helpers.environment import own_environment
from tests.helpers.served import DEADLINE, Reply, served

pytest.importorskip("fastapi", reason="the extra serve is not installed")

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_what_is_in_flight_is_answered_at_the_end(run_dir: Path, number: signal.Signals) -> None:
    with served(run_dir) as service:
        text = " ".join(f"The house sees snow {n}." for n in range(30))

        async def run() -> list[Reply]:
            asking = asyncio.create_task(service.send_all([{"text": text, "to": "nso"}] * 8))
            await service.metric_until("smoe_requests_in_flight", lambda requests: requests == 8)
            service.process.send_signal(number)
            return await asyncio.wait_for(asking, DEADLINE)

        replies = asyncio.run(run())
        workers = service.workers
        assert [reply.status for reply in replies] == [200] * 8
        assert service.process.wait(DEADLINE) == 0
        assert psutil.wait_procs(workers, timeout=DEADLINE)[1] == []
        with pytest.raises(ConnectionRefusedError):
            service.translate("Too late.")
        assert len(service.said) == 2 and "answered what is in flight" in service.said[1], service.said


def test_a_signal_while_the_model_is_loaded(run_dir: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "smoe_ds",
        "serve",
        str(run_dir),
        "--port",
        "0",
        "--device",
        "cpu",
        "--workers",
        "1",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=own_environment()) as process:
        assert process.stderr
        try:
            workers = first_workers(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()  # if it has not ended; its workers end with it
        assert psutil.wait_procs(workers, timeout=DEADLINE)[1] == []
        assert process.stderr.read() == b""


def first_workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Workers of a service that has just been started, as soon as there are some."""
    end = time.monotonic() + DEADLINE
    while not (workers := psutil.Process(process.pid).children()):
        if process.poll() is not None:
            assert process.stderr
            pytest.fail(f"the service ended with {process.returncode}: {process.stderr.read()!r}")
        assert time.monotonic() < end, f"no worker within {DEADLINE} s"
        time.sleep(0.01)
    return workers


def test_workers_end_with_a_service_that_is_killed(run_dir: Path) -> None:
    with served(run_dir) as service:
        workers = service.workers
        assert workers
        service.process.kill()
        assert psutil.wait_procs(workers, timeout=DEADLINE)[1] == []


def test_a_token_is_asked_for(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    with served(run_dir, "--host", "0.0.0.0", "--token-file", str(tmp_path / "token")) as service:
        body = {"text": "Two birds.", "to": "nso"}
        for headers in ({}, {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": f"Basic {TOKEN}"}):
            for method, path, sent in (
                ("POST", "/translate", body),
                ("GET", "/languages", None),
                ("GET", "/metrics", None),
            ):
                reply = service.ask(method, path, sent, headers)
                assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
                assert "'Authorization: Bearer TOKEN'" in reply.detail
        assert service.ask("POST", "/translate", body, {"Authorization": f"Bearer {TOKEN}"}).status == 200
        assert {service.ask("GET", path).status for path in ("/", "/docs", "/health", "/page.js")} == {200}
        assert TOKEN not in "".join(service.said)


def test_a_port_in_use(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", str(run_dir), "--device", "cpu", "--port", str(port)]) == 2
    message = f"port {port} of 127.0.0.1: address already in use; choose another one with --port\n"
    assert capsys.readouterr().err == message


def test_a_run_without_checkpoint(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_dir, run, ignore=shutil.ignore_patterns("checkpoints"))
    assert main(["serve", str(run), "--device", "cpu", "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert "checkpoint" in error and error.count("\n") == 1


def test_a_damaged_checkpoint(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    [weights] = (run / "checkpoints/step_00000001").glob("model*")
    weights.write_bytes(weights.read_bytes()[:-9])
    assert main(["serve", str(run), "--device", "cpu", "--port", "0", "--workers", "2"]) == 2
    error = capsys.readouterr().err
    assert weights.name in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: other machines could use the service; give it a token with"),
        (["--host", "nowhere.invalid", "--token-file", "TOKEN"], "--host nowhere.invalid: "),
        (["--token-file", "/nowhere"], "/nowhere: cannot be read: No such file or directory"),
        (["--token-file", "SHORT"], "expected a token of at least 16 letters and digits; make one with `openssl"),
        (["--port", "70000"], "70000: expected a port, 0 to 65535"),
        (["--workers", "0"], "0: expected a whole number, 1 or more"),
        (["--timeout", "0"], "0: expected seconds, more than 0"),
        (["--checkpoint", "77"], "no checkpoint 77"),
    ],
)
def test_mistakes_are_named(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "TOKEN").write_text(TOKEN, encoding="utf-8")
    (tmp_path / "SHORT").write_text("secret", encoding="utf-8")
    arguments = [str(tmp_path / word) if word in ("TOKEN", "SHORT") else word for word in arguments]
    assert main(["serve", str(run_dir), "--device", "cpu", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_missing_libraries_are_named(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str) -> object:
        return None if name == "fastapi" else importlib.util.find_spec(name)

    monkeypatch.setattr("smoe_ds.cli.serve.find_spec", find_spec)
    assert main(["serve", str(run_dir)]) == 2
    assert capsys.readouterr().err == "smoe-ds serve needs fastapi; run pip install -e '.[serve]' in the checkout\n"
