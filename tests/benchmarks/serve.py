"""Latency and throughput of ``smoe-ds serve`` beside batch translation: ``python -m tests.benchmarks.serve``.

Clients on loopback send one line each and the next one as soon as the last is answered; as many as are in flight. In
every round the same lines are also translated in one go, as ``smoe-ds translate`` does it, by a process with as many
threads; the ratio is the service's lines per second over those of this batch in the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from smoe_ds.decode.load import load_translator
from smoe_ds.decode.translator import Translator
from tests.benchmarks.measure import report
from tests.benchmarks.pruning import train
from tests.helpers.prepared import sentence
from tests.helpers.served import Service, request_bytes, served

TARGET = "nso"


async def client(service: Service, lines: Iterator[str], seconds: list[float]) -> None:
    """Sends line after line on one connection; notes how long each took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    for line in lines:
        began = time.perf_counter()
        body = {"text": line, "to": TARGET, "split": False}
        writer.write(request_bytes("POST", "/translate", body, {"Connection": "keep-alive"}))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if not head.startswith("http/1.1 200"):
            raise SystemExit(f"the service answered: {head}")
        await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
        seconds.append(time.perf_counter() - began)
    writer.close()


async def flood(service: Service, lines: Sequence[str], in_flight: int) -> tuple[float, list[float]]:
    """Seconds for all lines, and of each."""
    shared = iter(lines)
    seconds: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(client(service, shared, seconds) for _ in range(in_flight)))
    return time.perf_counter() - began, seconds


def batch(translator: Translator, lines: Sequence[str]) -> float:
    """Seconds for all lines in one go."""
    began = time.perf_counter()
    translator.translate(lines, TARGET)
    return time.perf_counter() - began


def one_by_one(translator: Translator, lines: Sequence[str]) -> float:
    """Milliseconds of a line translated alone, without a service: the median."""
    return 1000 * statistics.median(batch(translator, [line]) for line in lines)


def row(service: Service, translator: Translator, lines: Sequence[str], in_flight: int, rounds: int) -> dict[str, Any]:
    """One number of requests in flight, over rounds; the first one does not count."""
    ratios, latencies, rates, alone = [], [], [], one_by_one(translator, lines[:32])
    for number in range(rounds + 1):
        whole = batch(translator, lines)
        served_in, seconds = asyncio.run(flood(service, lines, in_flight))
        if number:
            ratios.append(whole / served_in)
            rates.append(len(lines) / served_in)
            latencies += [one * 1000 for one in seconds]
    return {
        "in flight": in_flight,
        "lines": len(lines),
        "line alone (ms)": alone,
        "p50 (ms)": statistics.median(latencies),
        "p95 (ms)": statistics.quantiles(latencies, n=20)[-1],
        "lines/s": statistics.median(rates),
        "of batch": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Run what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serve", description=__doc__)
    parser.add_argument("--run", type=Path, help="run folder with the language nso, instead of a small new one")
    parser.add_argument("--steps", type=int, default=200, help="of training the small one")
    parser.add_argument("--lines", type=int, default=512)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=5, help="that count")
    parser.add_argument("--threads", type=int, default=1, help="of the worker, and of the batch beside it")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    import torch

    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="serve-benchmark-") as folder:
        run = args.run or train(Path(folder), args.steps)
        translator = load_translator(run, device="cpu", packed=True)
        lines = [sentence(7 * number % 800) for number in range(args.lines)]
        with served(run, OMP_NUM_THREADS=str(args.threads)) as service:
            rows = [row(service, translator, lines, in_flight, args.rounds) for in_flight in args.in_flight]
    report("serve", rows, args.json)
    return rows


if __name__ == "__main__":
    main()
