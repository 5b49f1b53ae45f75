"""``smoe-ds score``: log-probabilities token by token, totals, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from smoe_ds.cli.main import main
from smoe_ds.decode.load import load_translator
from smoe_ds.decode.translator import Translator

SOURCES = ["The house sees snow.", "", "My old friend opens the blue door.", "Two birds.", ""]
TARGETS = ["Two birds.", "x", "", "The blue door sees my brother.", ""]


def write(path: Path, lines: list[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def expected(translator: Translator, source: str, target: str, language: str) -> float:
    """The sum over the target's tokens, each from a forward pass of its own in float64."""
    tokenizer, model = translator.tokenizer, translator.model.double()
    start, eos, total = tokenizer.language_id(language), tokenizer.eos_id, 0.0
    tokens = [*tokenizer.encode(target), eos]
    for i, token in enumerate(tokens):
        with torch.no_grad():
            src = torch.tensor([[start, *tokenizer.encode(source), eos]])
            logits, _ = model(src, torch.tensor([[start, *tokens[:i]]]))
        total += torch.log_softmax(logits[0, -1], dim=0)[token].item()
    return total


def test_every_pair_and_the_totals(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write(tmp_path / "a", SOURCES), write(tmp_path / "b", TARGETS)]
    table = write(tmp_path / "c.tsv", [f"{a}\t{b}" for a, b in zip(SOURCES, TARGETS, strict=True)])
    pairs = ["--pair", "eng-nso", *files, "--pair", "eng-cat", table, "--chunk", "2"]
    assert main(["score", str(run_dir), *pairs, "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    rows = [line.split("\t") for line in out.splitlines()]
    assert len(rows) == 10
    translator = load_translator(run_dir, device="cpu")
    totals = {"nso": 0.0, "cat": 0.0}
    for row, (source, target), language in zip(
        rows, [*zip(SOURCES, TARGETS, strict=True)] * 2, ["nso"] * 5 + ["cat"] * 5, strict=True
    ):
        log_prob, perplexity, tokens = float(row[0]), float(row[1]), int(row[2])
        if not source and not target:
            assert (log_prob, perplexity, tokens) == (0, 1, 0)
            continue
        assert log_prob == pytest.approx(expected(translator, source, target, language), rel=1e-4)
        assert tokens == len(translator.tokenizer.encode(target)) + 1
        assert perplexity == pytest.approx(math.exp(-log_prob / tokens), rel=1e-4)
        totals[language] += log_prob
    notes = [line for line in err.splitlines() if "sentences" in line]
    for line, language in zip(notes, totals, strict=True):
        assert line.startswith(f"smoe-ds score: eng-{language}: 5 sentences, ")
        assert float(line.split("log-probability ")[1].split(",")[0]) == pytest.approx(totals[language], rel=1e-5)


@pytest.mark.parametrize(
    ("direction", "files", "message"),
    [
        ("eng-nso", [["a", "b"], ["a"]], "0: has 2 lines, but {folder}/1 has 1; give one target for each source"),
        ("eng-nso", [[], []], "0: is empty; give one sentence a line"),
        ("eng-nso", [["a\tb", "c"]], "0: line 2 has 1 columns; give source, tab and target"),
        ("eng-nso", [["a"], ["b"], ["c"]], "--pair eng-nso: has 3 files; name two text files, or one TSV file"),
        ("eng-nso", [], "--pair eng-nso: has 0 files"),
        ("eng-nso", [["a"], ["x " * 50_000]], "1: line 1 has "),
        ("eng-nso", [["a", "x " * 50_000], ["b", "b"]], "0: line 2 has "),
        ("eng-xyz", [["a"], ["b"]], "no token for language 'xyz'"),
        ("xyz-eng", [["a"], ["b"]], "no token for language 'xyz'"),
        ("nso", [["a"], ["b"]], "--pair nso: is no direction"),
    ],
)
def test_mistakes_are_named(
    run_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    direction: str,
    files: list[list[str]],
    message: str,
) -> None:
    names = [write(tmp_path / str(number), lines) for number, lines in enumerate(files)]
    assert main(["score", str(run_dir), "--device", "cpu", "--pair", direction, *names]) == 2
    out, err = capsys.readouterr()
    assert message.format(folder=tmp_path) in err
    assert out == "" and len(err.splitlines()) == 1 and len(err) < 400


def test_missing_and_compressed_files(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8b\x08")
    for name, message in (("nowhere", "cannot be read"), ("a.gz", "is compressed with gzip")):
        assert main(["score", str(run_dir), "--device", "cpu", "--pair", "eng-nso", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err
