"""Speed of the preparation against bare SentencePiece encoding: ``python -m tests.benchmarks.prepare``.

The floor is what cannot be saved: the same sentences, in memory as Python strings, encoded by SentencePiece with the
same vocabulary, by as many processes as there are processors, started and loaded beforehand. The preparation is the
whole command but for training the vocabulary, from the text files to the corpus in its place, processes started anew.
Both run in turn, and a round's times are compared with each other only. Besides the time that passes, the processor
time of all processes is compared: other work on the machine makes the former vary widely, and with all processors busy
on an idle machine the two say the same.

The text is invented: words of syllables, their frequencies those of a natural language (Zipf, Mandelbrot), in a Latin
and a Cyrillic spelling beside an English-like one; or it is that of a folder, ``train.XX-YY.{XX,YY}[.gz]``.
"""

from __future__ import annotations

import argparse
import gzip
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from data_prep.prepare import prepare
from data_prep.progress import Progress
from data_prep.spec.load_spec import load_spec
from data_prep.stages.collector import collector_paused
from smoe_ds.data.tokenizer import Tokenizer

SYLLABLES = {
    language: text.split()
    for language, text in {
        "eng": "the an in er on re at en or es al ar te se to ti le de st io is me ing ed ly con pro com",
        "cat": "el la de que un ca ny ça ral ò ti ma re es tar ment ció per so lle xa bo vi si na",
        "rus": "да ко ли ня су ве зо ры ста пре но го ть ми ла че ный ов ин ра по бы та ся же",
    }.items()
}
WORDS = 120_000
MEGABYTE = 1_000_000


def words_of(language: str, rng: np.random.Generator) -> list[str]:
    """The words of an invented language; frequent ones are short."""
    lengths = 1 + rng.poisson(0.25 * np.log1p(np.arange(2 * WORDS)))
    drawn = rng.choice(SYLLABLES[language], int(lengths.sum())).tolist()
    ends = np.cumsum(lengths).tolist()
    words = ("".join(drawn[start:end]) for start, end in zip([0, *ends], ends, strict=False))
    return list(dict.fromkeys(words))[:WORDS]


def sentences(language: str, number: int, rng: np.random.Generator) -> Iterator[str]:
    """Sentences of 21 words on average, a quarter with a comma, each with a final stop."""
    words = np.array(words_of(language, rng), object)
    weights = 1 / (np.arange(len(words)) + 2.7) ** 1.05
    ends = np.cumsum(weights / weights.sum())
    for start in range(0, number, 10_000):
        lengths = np.clip(rng.lognormal(2.85, 0.6, min(10_000, number - start)), 3, 120).astype(int)
        drawn = words[np.minimum(np.searchsorted(ends, rng.random(int(lengths.sum()))), len(words) - 1)].tolist()
        position = 0
        for length in lengths.tolist():
            text = " ".join(drawn[position : position + length])
            position += length
            yield (text.replace(" ", ", ", 1) if length % 4 == 0 else text).capitalize() + "."


def write_text(folder: Path, megabytes: float) -> list[tuple[str, str, str]]:
    """Writes invented text of about that size; returns pair, and the files of both sides."""
    files = []
    for pair, share in (("eng-cat", 0.6), ("eng-rus", 0.4)):
        languages = pair.split("-")
        number = int(megabytes * MEGABYTE * share / (280 if pair == "eng-cat" else 360))
        names = [f"train.{pair}.{language}" for language in languages]
        for seed, (name, language) in enumerate(zip(names, languages, strict=True)):
            rng = np.random.default_rng([seed, len(files)])
            with (folder / name).open("w", encoding="utf-8") as file:
                file.writelines(f"{text}\n" for text in sentences(language, number, rng))
        files.append((pair, names[0], names[1]))
    return files


def find_text(source: Path, folder: Path) -> list[tuple[str, str, str]]:
    """Copies the training text of a folder, unpacked."""
    files = []
    for first in sorted(source.glob("train.*-*.*")):
        _, pair, language = first.name.removesuffix(".gz").split(".")
        names = [f"train.{pair}.{name}" for name in pair.split("-")]
        if language != pair.split("-")[0]:
            continue
        for name in names:
            path = next(path for path in (source / name, source / f"{name}.gz") if path.exists())
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            (folder / name).write_bytes(data)
        files.append((pair, names[0], names[1]))
    return files


def write_spec(folder: Path, files: list[tuple[str, str, str]], vocab_size: int) -> Path:
    """Writes a specification whose vocabulary is trained on a part of the text."""
    small = {"output": "small", "pairs": [], "held_out": {"valid": 0, "test": 0},
             "sentencepiece": {"vocab_size": vocab_size, "allow_smaller": True}}  # fmt: skip
    spec = {"output": "corpus", "pairs": [], "sentencepiece": {"model": "small/tokenizer.model"}}
    for pair, src, tgt in files:
        heads = []
        for name in (src, tgt):
            lines = (folder / name).read_bytes().split(b"\n")[:20_000]
            (folder / f"head.{name}").write_bytes(b"\n".join(lines) + b"\n")
            heads.append(f"head.{name}")
        small["pairs"].append({"pair": pair, "train": {"src": heads[0], "tgt": heads[1]}})
        spec["pairs"].append({"pair": pair, "train": {"src": src, "tgt": tgt}})
    for name, content in (("small.yaml", small), ("spec.yaml", spec)):
        (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    command = [sys.executable, "-m", "data_prep", str(folder / "small.yaml"), "--quiet"]  # its threads end with it
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "spec.yaml"


def encode_share(paths: list[Path], model: Path, number: int, cpu: Any, barrier: Barrier) -> None:
    """Encodes every so many-th sentence between two passes of the barrier; puts its processor time into ``cpu``."""
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").split("\n")[number :: len(cpu)]]
    tokenizer = Tokenizer(model)
    barrier.wait()
    began = time.process_time()
    with collector_paused():  # as in the preparation
        for start in range(0, len(lines), 10_000):
            tokenizer.encode_rows(lines[start : start + 10_000])
    cpu[number] = time.process_time() - began
    barrier.wait()


def bare(paths: list[Path], model: Path, processes: int) -> tuple[float, float]:
    """Seconds, and processor seconds, that SentencePiece takes for all sentences."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes + 1)
    cpu = context.Array("d", processes)
    shares = [context.Process(target=encode_share, args=(paths, model, number, cpu, barrier))
              for number in range(processes)]  # fmt: skip
    for share in shares:
        share.start()
    barrier.wait()
    began = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - began
    for share in shares:
        share.join()
    return seconds, sum(cpu[:])


def processor_seconds() -> float:
    """Processor time of this process and of all that it started and that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def whole(spec: Path, workers: int) -> tuple[dict[str, float], float]:
    """Seconds of the preparation, ``whole`` and by stage; and its processor seconds."""
    progress = Progress(quiet=True)
    began, cpu_before = time.perf_counter(), processor_seconds()
    prepare(load_spec(spec), spec.parent, spec.parent / "corpus", overwrite=True, workers=workers, progress=progress)
    return {"whole": time.perf_counter() - began, **progress.seconds}, processor_seconds() - cpu_before


def measure(folder: Path, files: list[tuple[str, str, str]], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the table."""
    spec = write_spec(folder, files, args.vocab_size)
    paths = [folder / name for _, src, tgt in files for name in (src, tgt)]
    size = sum(path.stat().st_size for path in paths) / MEGABYTE
    times: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    for _ in range(args.repeats):
        seconds, cpu_seconds = bare(paths, folder / "small/tokenizer.model", args.workers)
        times["bare"].append(seconds)
        cpu["bare"].append(cpu_seconds)
        stages, cpu_seconds = whole(spec, args.workers)
        cpu["whole"].append(cpu_seconds)
        for name, seconds in stages.items():
            times[name].append(seconds)
    return _rows(size, times, cpu)


def _rows(size: float, times: dict[str, list[float]], cpu: dict[str, list[float]]) -> list[dict[str, Any]]:
    from tests.benchmarks.measure import ratio  # imports torch, which no process of the preparation has

    rows = []
    for name, all_seconds in times.items():
        speed = ratio(times, "bare", name)
        row = {"what": name, "MB": size, "seconds": statistics.median(all_seconds),
               "MB_per_s": size / statistics.median(all_seconds), "of_bare": speed["median"],
               "quartiles": f"{speed['q1']:.2f}-{speed['q3']:.2f}", "cpu_seconds": "-", "of_bare_cpu": "-",
               "cpu_quartiles": "-"}  # fmt: skip
        if name in cpu:
            speed = ratio(cpu, "bare", name)
            row |= {"cpu_seconds": statistics.median(cpu[name]), "of_bare_cpu": speed["median"],
                    "cpu_quartiles": f"{speed['q1']:.2f}-{speed['q3']:.2f}"}  # fmt: skip
        rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Runs what the arguments name; returns the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.prepare", description=__doc__)
    parser.add_argument("--text", type=Path, help="folder with train.XX-YY.{XX,YY}[.gz]; default: invented text")
    parser.add_argument("--megabytes", type=float, default=100, help="size of the invented text")
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes of either side")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = find_text(args.text, folder) if args.text else write_text(folder, args.megabytes)
        rows = measure(folder, files, args)
    from tests.benchmarks.measure import report

    report(f"preparation, {args.workers} processes", rows, args.json)
    return rows


if __name__ == "__main__":
    main()
