"""``smoe-ds translate``: n best, prefixes, and options of the search."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.cli.main import main
from smoe_ds.decode.load import load_translator
from smoe_ds.decode.translator import Translator

LINES = ["The house sees snow.", "", "My old friend opens the blue door.", "word " * 90, "Two birds."]
PREFIXES = ["", "", "Her brother", "the", "x"]
SAMPLING = "smoe.decode.sampling.temperature=1.0"


@pytest.fixture(scope="module")
def model(run_dir: Path) -> Translator:
    return load_translator(run_dir, device="cpu")


def translate(run: Path, folder: Path, *arguments: str, lines: list[str] = LINES) -> list[str]:
    (folder / "in").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    files = ["--input", str(folder / "in"), "--output", str(folder / "out"), "--chunk", "2"]
    assert main(["translate", str(run), "--to", "nso", "--device", "cpu", *files, *arguments]) == 0
    return (folder / "out").read_text(encoding="utf-8").splitlines()


def test_n_best_in_the_format_of_moses(run_dir: Path, tmp_path: Path, model: Translator) -> None:
    rows = [line.split(" ||| ") for line in translate(run_dir, tmp_path, "--n-best", "3")]
    assert [int(row[0]) for row in rows] == [0, 0, 0, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    expected = model.n_best(LINES, "nso", 3)
    assert [row[1] for row in rows] == [t.text for best in expected for t in best]
    assert all(len(row[2].partition(".")[2]) == 6 for row in rows)
    assert [float(row[2]) for row in rows] == pytest.approx([t.score for best in expected for t in best], abs=1e-5)
    for best, alone in zip(expected, model.translate(LINES, "nso"), strict=True):
        assert best[0].tokens == alone.tokens
        assert [t.score for t in best] == sorted((t.score for t in best), reverse=True)
        assert len({t.tokens for t in best}) == len(best)
    scores = model.score([LINES[0]] * 3, [t.tokens for t in expected[0]], "nso")
    assert scores == pytest.approx([t.score for t in expected[0]], rel=1e-4)


def test_one_best_is_the_plain_output(run_dir: Path, tmp_path: Path) -> None:
    assert translate(run_dir, tmp_path, "--n-best", "1") == translate(run_dir, tmp_path)


def test_outputs_begin_with_their_prefixes(run_dir: Path, tmp_path: Path, model: Translator) -> None:
    (tmp_path / "prefixes").write_text("".join(f"{line}\n" for line in PREFIXES), encoding="utf-8")
    found = translate(run_dir, tmp_path, "--prefix-file", str(tmp_path / "prefixes"))
    free = model.translate(LINES, "nso")
    assert found[:2] == [free[0].text, ""]
    assert [line.startswith(prefix) for line, prefix in zip(found, PREFIXES, strict=True)] == [True] * 5
    assert found[2] != free[2].text and found[2] != PREFIXES[2]
    [[begun]] = model.n_best([""], "nso", 1, ["Her brother"])
    assert begun.text.startswith("Her brother") and begun.status == "translated"


def test_samples_do_not_depend_on_the_chunk(run_dir: Path, tmp_path: Path) -> None:
    found = translate(run_dir, tmp_path, "--set", SAMPLING, "--n-best", "2")
    at_once = translate(run_dir, tmp_path, "--set", SAMPLING, "--n-best", "2", "--chunk", "100")
    rows, others = ([line.split(" ||| ") for line in lines] for lines in (found, at_once))
    assert [row[:2] for row in rows] == [row[:2] for row in others]
    assert [float(row[2]) for row in rows] == pytest.approx([float(row[2]) for row in others], abs=1e-5)
    other = translate(run_dir, tmp_path, "--set", SAMPLING, "--n-best", "2", "--set", "smoe.decode.sampling.seed=2")
    assert found != other != translate(run_dir, tmp_path, "--n-best", "2")


def test_shortest_output_and_repeats(run_dir: Path) -> None:
    overrides = ["smoe.decode.min_length=12", "smoe.decode.no_repeat_ngram=2"]
    for answer in load_translator(run_dir, "best", overrides, device="cpu").translate([LINES[0], LINES[2]], "nso"):
        pairs = list(zip(answer.tokens, answer.tokens[1:], strict=False))
        assert len(answer.tokens) >= 12 and len(set(pairs)) == len(pairs)


@pytest.mark.parametrize(
    ("prefixes", "message"),
    [
        (["a"], "prefixes: has 1 lines, but {input} has more; give one line for each line"),
        ([], "prefixes: has 0 lines, but {input} has more"),
        (["a"] * 7, "{input}: has 5 lines, but "),
        (["", "", "", "x " * 50_000, ""], "prefix 4 has "),
    ],
    ids=["fewer", "none", "more", "long"],
)
def test_prefixes_that_do_not_fit(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], prefixes: list[str], message: str
) -> None:
    (tmp_path / "in").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    (tmp_path / "prefixes").write_text("".join(f"{line}\n" for line in prefixes), encoding="utf-8")
    files = ["--input", str(tmp_path / "in"), "--prefix-file", str(tmp_path / "prefixes"), "--chunk", "3"]
    assert main(["translate", str(run_dir), "--to", "nso", "--device", "cpu", *files]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert message.format(input=tmp_path / "in") in last and len(last) < 300


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-best", "9"], "smoe.decode.beam_size is 5; set it to 9 (--beam 9)"),
        (["--n-best", "0"], "expected a whole number, 1 or more"),
        (["--n-best", "2", "--scores"], "--scores: --n-best writes the scores already"),
        (["--prefix-file", "/nowhere/text"], "/nowhere/text: cannot be opened"),
        (["--set", "smoe.decode.sampling.top_k=5"], "top_k: has no effect without sampling"),
        (["--set", "smoe.decode.min_length=0"], "smoe.decode.min_length: expected a value > 0"),
    ],
)
def test_mistakes_are_named(
    run_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["translate", str(run_dir), "--to", "nso", "--device", "cpu", *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err and out == "" and len(err.splitlines()) == 1


def test_a_line_of_100_000_characters_is_translated_as_its_beginning(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = translate(run_dir, tmp_path, "--n-best", "2", lines=["x " * 50_000])
    assert len(found) == 2
    [warning] = capsys.readouterr().err.splitlines()
    assert "line 1: has " in warning and len(warning) < 300
