"""Many requests at once, slow and broken connections, workers that die: every request is answered or refused."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from smoe_ds.decode.translator import Translator
from tests.helpers.served import DEADLINE, Reply, Service, read_reply, request_bytes, served

pytest.importorskip("fastapi", reason="the extra serve is not installed")

WORDS = """the house sees snow my old friend opens blue door two birds her brother likes bread""".split()  # noqa: SIM905
SENTENCES = [
    " ".join(WORDS[(i * step) % len(WORDS)] for i in range(2 + i % 5)) for step in range(1, 8) for i in range(9)
]
ANSWERED = 'smoe_requests_total{path="/translate",status="200"}'


@pytest.fixture(scope="module")
def strict(run_dir: Path) -> Iterator[Service]:
    """Two workers, few requests, and little time: still several times what a few sentences take on a slow machine."""
    arguments = ["--workers", "2", "--max-requests", "3", "--timeout", "10", "--max-characters", "100"]
    with served(run_dir, *arguments) as running:
        running.wait_until(lambda: ready(running) == 2)
        yield running


def ready(service: Service) -> int:
    """Workers that can translate."""
    return int(service.ask("GET", "/health").json["workers"])


def body(number: int) -> dict[str, object]:
    return {"text": SENTENCES[number % len(SENTENCES)], "to": ("nso", "cat")[number % 2]}


def test_200_requests_in_flight(service: Service, translator: Translator) -> None:
    expected = [translator.translate([str(body(n)["text"])], str(body(n)["to"]))[0].text for n in range(20)]
    replies = asyncio.run(service.send_all([body(n) for n in range(200)]))
    assert [reply.status for reply in replies] == [200] * 200
    assert [reply.json["text"] for reply in replies[:20]] == expected
    for number, reply in enumerate(replies):
        assert reply.json["sentences"][0]["source"] == body(number)["text"], "nobody gets another one's answer"
    assert service.metric("smoe_requests_in_flight") == service.metric("smoe_sentences_waiting") == 0


def test_slow_and_broken_connections_delay_nobody(service: Service) -> None:
    gone = service.metric('smoe_requests_total{path="/translate",status="499"}')

    async def run() -> tuple[list[Reply], list[Reply]]:
        slow = [await asyncio.open_connection("127.0.0.1", service.port, limit=64) for _ in range(20)]
        broken = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(30)]
        for number, (_, writer) in enumerate(slow):  # they read only at the end
            writer.write(request_bytes("POST", "/translate", {**body(number), "n_best": 5}))
        for number, (_, writer) in enumerate(broken):  # half of a request, or a request whose answer nobody awaits
            writer.write(request_bytes("POST", "/translate", body(number))[: 40 if number % 3 == 0 else None])
            await writer.drain()
            if number % 3 == 1:
                writer.transport.abort()
            else:
                writer.close()
        replies = await asyncio.wait_for(service.send_all([body(n) for n in range(40)]), DEADLINE)
        late = [await asyncio.wait_for(read_reply(reader), DEADLINE) for reader, _ in slow]
        for _, writer in slow:
            writer.close()
        return replies, late

    replies, late = asyncio.run(run())
    assert [reply.status for reply in (*replies, *late)] == [200] * 60
    assert all(len(reply.json["sentences"][0]["translations"]) == 5 for reply in late)
    service.wait_until(lambda: service.metric("smoe_requests_in_flight") == 0)
    assert service.metric('smoe_requests_total{path="/translate",status="499"}') > gone


def test_a_reader_that_stops_holds_up_only_itself(service: Service) -> None:
    """Twelve long answers on one connection, unread: they fill its buffers, and others are still answered."""
    long = request_bytes("POST", "/translate", {"text": "\u6c34" * 20_000, "to": "nso"}, {"Connection": "keep-alive"})

    async def run() -> tuple[list[Reply], float, bytes]:
        before = await service.metric_of(ANSWERED)
        with socket.socket() as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)  # else the service's side buffers megabytes
            narrow.connect(("127.0.0.1", service.port))
            reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
            last = long.replace(b"keep-alive", b"close")
            writer.write(long * 11 + last)
            stopped = await held_up(service, before) - before
            replies = await asyncio.wait_for(service.send_all([body(n) for n in range(30)]), DEADLINE)
            assert await service.metric_of(ANSWERED) == before + stopped + 30
            text = await asyncio.wait_for(reader.read(-1), DEADLINE)
            writer.close()
            await writer.wait_closed()
            return replies, stopped, text

    replies, stopped, text = asyncio.run(run())
    assert [reply.status for reply in replies] == [200] * 30
    assert 0 < stopped < 12, "the reader had not stopped"
    assert text.count(b"HTTP/1.1 200") == 12 and text.endswith(b"}")


async def held_up(service: Service, before: float) -> float:
    """Requests answered so far, as soon as some are, no worker has one, and there is no further answer for a while."""
    end = time.monotonic() + DEADLINE
    seen: list[tuple[float, float]] = []
    while len(seen) < 5 or seen[-5:] != seen[-1:] * 5 or seen[-1][0] or seen[-1][1] == before:
        assert time.monotonic() < end, f"in flight, answered: {seen[-5:]}"
        await asyncio.sleep(0.1)
        seen.append((await service.metric_of("smoe_requests_in_flight"), await service.metric_of(ANSWERED)))
    return seen[-1][1]


def test_a_killed_worker_is_replaced_and_its_requests_are_answered(service: Service, translator: Translator) -> None:
    expected = [translator.translate([str(body(n)["text"])], str(body(n)["to"]))[0].text for n in range(6)]
    deaths, [before] = service.metric("smoe_worker_deaths_total"), [worker.pid for worker in service.workers]

    async def run() -> list[Reply]:
        asking = asyncio.create_task(service.send_all([body(n) for n in range(60)]))
        await service.metric_until("smoe_requests_in_flight", bool)
        psutil.Process(before).kill()
        return await asyncio.wait_for(asking, DEADLINE)

    replies = asyncio.run(run())
    assert [reply.status for reply in replies] == [200] * 60
    assert [reply.json["text"] for reply in replies[:6]] == expected
    assert service.metric("smoe_worker_deaths_total") == deaths + 1
    assert [worker.pid for worker in service.workers] != [before]
    assert any("has gone (signal 9)" in line for line in service.said)


def test_more_requests_than_allowed_and_workers_that_hang(strict: Service) -> None:
    """Paused workers: three requests wait, the fourth is refused, all get an answer in time, new workers come."""
    paused = strict.workers
    for worker in paused:
        worker.suspend()

    async def run() -> tuple[Reply, list[Reply]]:
        waiting = asyncio.create_task(strict.send_all([body(n) for n in range(3)]))
        await strict.metric_until("smoe_requests_in_flight", lambda requests: requests == 3)
        return await strict.send("POST", "/translate", body(3)), await asyncio.wait_for(waiting, DEADLINE)

    refused, late = asyncio.run(run())
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert refused.detail == "3 requests are being answered already; try again in a second"
    assert [reply.status for reply in late] == [504] * 3
    assert late[0].detail.startswith("no answer within 10 seconds")
    strict.wait_until(lambda: ready(strict) == 2 and not {w.pid for w in paused} & {w.pid for w in strict.workers})
    assert strict.translate("Two birds.").status == 200


def test_more_connections_than_allowed(strict: Service) -> None:
    """The HTTP server itself refuses them, and what is no HTTP; both as plain text."""
    with contextlib.ExitStack() as opened:
        for _ in range(4 * 3):
            opened.enter_context(socket.create_connection(("127.0.0.1", strict.port)))
        strict.wait_until(lambda: strict.ask("GET", "/health").status == 503)
        refused = strict.translate("Two birds.")
    assert (refused.status, refused.body) == (503, b"Service Unavailable")
    assert refused.headers["content-type"].startswith("text/plain")
    strict.wait_until(lambda: strict.ask("GET", "/health").status == 200)
    strange = strict.ask("NONSENSE", "/translate")
    assert strange.status == 400 and strange.headers["content-type"].startswith("text/plain")


def test_own_limits(strict: Service) -> None:
    assert strict.translate("a" * 101).detail == "text: has 101 characters, the service takes 100; send it in parts"
    assert strict.ask("GET", "/languages").json["max_characters"] == 100


def test_both_workers_translate(strict: Service) -> None:
    """Each computes for 0.1 s more than it had; the system's clock of it goes in steps of 0.01 s."""
    workers = strict.workers
    before = [sum(worker.cpu_times()[:2]) for worker in workers]

    def computed() -> bool:
        replies = asyncio.run(strict.send_all([{"text": WORDS[n] * 3, "to": "nso"} for n in range(3)]))
        assert [reply.status for reply in replies] == [200] * 3
        return all(sum(w.cpu_times()[:2]) > then + 0.1 for w, then in zip(workers, before, strict=True))

    assert len(workers) == 2
    strict.wait_until(computed)


@pytest.mark.slow
def test_a_text_on_which_two_workers_die_is_refused(service: Service) -> None:
    """The sentences of the first worker's batch are translated one by one, which leaves time to kill the second."""
    deaths = service.metric("smoe_worker_deaths_total")

    async def run() -> Reply:
        text = {"text": "\n".join(SENTENCES * 6), "to": "nso", "n_best": 5}
        asking = asyncio.create_task(service.send("POST", "/translate", text))
        await service.metric_until("smoe_sentences_waiting", lambda waiting: 0 < waiting < 6 * len(SENTENCES))
        for death in (1, 2):
            await service.metric_until("smoe_workers", bool)  # it takes what waits as soon as it is there
            service.workers[0].kill()
            await service.metric_until("smoe_worker_deaths_total", lambda n, most=deaths + death: n == most)
        return await asyncio.wait_for(asking, DEADLINE)

    reply = asyncio.run(run())
    assert reply.status == 503
    assert reply.detail == "two workers died on this text; try again later"
    service.wait_until(lambda: ready(service) == 1)
    assert service.translate("Two birds.").status == 200


@pytest.mark.slow
def test_workers_that_cannot_start_again(run_dir: Path, tmp_path: Path) -> None:
    """The checkpoint has gone and the worker dies: requests are refused at once; a checkpoint that is back helps."""
    run, hidden = tmp_path / "run", tmp_path / "checkpoints"
    shutil.copytree(run_dir, run)
    with served(run) as service:
        checkpoint = run / "checkpoints"
        checkpoint.rename(hidden)
        try:
            service.workers[0].send_signal(signal.SIGKILL)
            service.wait_until(lambda: service.ask("GET", "/health").json["status"] == "failed")
            refused = service.translate("Two birds.")
            assert refused.status == 503 and "could not be started" in refused.detail
        finally:
            hidden.rename(checkpoint)
        service.wait_until(lambda: service.ask("GET", "/health").status == 200)
        assert service.translate("Two birds.").status == 200
        assert any("a worker could not be started: " in line for line in service.said)


@pytest.mark.slow
def test_memory_stays_flat(run_dir: Path) -> None:
    """Resident memory of the process in front over 600 requests in flight, and of the worker over 300, one at a time.

    oneDNN keeps code for every shape of product that it meets. Requests in flight make batches of ever new shapes, by
    chance; one at a time they make the same shapes again, and then a worker's memory stays where it is.
    """

    def memory(pid: int) -> int:
        return int(psutil.Process(pid).memory_info().rss)

    def asked(n: int) -> dict[str, object]:
        return {"text": " ".join(WORDS[n % 4 :][:2]), "to": ("nso", "cat")[n % 2], "n_best": 1 + n % 5}

    async def together(number: int) -> None:
        for start in range(0, number, 50):
            replies = await service.send_all([asked(start + n) for n in range(50)])
            assert {reply.status for reply in replies} == {200}

    async def one_by_one(number: int) -> None:
        for n in range(number):
            assert (await service.send("POST", "/translate", asked(n))).status == 200

    def grown(requests: Coroutine[Any, Any, None], pid: int) -> int:
        before = memory(pid)
        asyncio.run(requests)
        return memory(pid) - before

    with served(run_dir) as service:
        worker = service.workers[0].pid
        asyncio.run(one_by_one(100))
        assert grown(one_by_one(300), worker) < 3 << 20
        asyncio.run(together(600))
        assert grown(together(600), service.process.pid) < 3 << 20
        assert service.workers[0].pid == worker
