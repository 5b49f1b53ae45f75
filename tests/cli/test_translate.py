"""``smoe-ds translate``: every line answered, errors named, pipes and interrupts quiet."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smoe_ds.cli.main import main
from smoe_ds.decode.load import load_translator

COMMAND = [sys.executable, "-m", "smoe_ds", "translate"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def translate(run: Path, text: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, str(run), "--to", "nso", "--device", "cpu", *arguments]
    return subprocess.run(command, input=text, capture_output=True, timeout=120, env=ENVIRONMENT, check=False)


def test_every_line_of_stdin_is_answered_in_order(run_dir: Path) -> None:
    lines = ["The house sees snow.", "", "My old friend opens the blue door.", "word " * 90, " ", "Carriage return.\r"]
    lines += ["Her brother likes\u2028bread.", "<2cat> <s> </s> <pad>", "The teacher\x00 finds my hat."]
    done = translate(run_dir, "\n".join(lines).encode(), "--chunk", "4", "--from", "eng")
    assert done.returncode == 0
    answers = done.stdout.decode().split("\n")
    assert answers.pop() == "" and len(answers) == len(lines)
    expected = load_translator(run_dir, device="cpu").translate(lines, "nso")
    assert answers == [translation.text for translation in expected]
    assert [i for i, answer in enumerate(answers) if not answer] == [1, 4]
    [warning] = done.stderr.decode().splitlines()
    assert "line 4: has " in warning and "the model takes 64" in warning


def test_files_scores_and_settings(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_bytes(b"The house sees snow.\n\nTwo birds.")
    arguments = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--scores", "--checkpoint", "last"]
    settings = ["--beam", "2", "--length-penalty", "0.5", "--set", "smoe.decode.max_length_factor=0.5"]
    assert main(["translate", str(run_dir), "--to", "cat", "--device", "cpu", *arguments, *settings]) == 0
    rows = [line.split("\t", 1) for line in (tmp_path / "out").read_text(encoding="utf-8").splitlines()]
    overrides = ["smoe.decode.beam_size=2", "smoe.decode.length_penalty=0.5", "smoe.decode.max_length_factor=0.5"]
    translator = load_translator(run_dir, "last", overrides, device="cpu")
    expected = translator.translate(["The house sees snow.", "", "Two birds."], "cat")
    assert rows == [[f"{translation.score:.6f}", translation.text] for translation in expected]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("text", [b"", b"\n", b"\n\n"])
def test_nothing_in_nothing_out(run_dir: Path, tmp_path: Path, text: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_bytes(text)
    files = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(["translate", str(run_dir), "--to", "nso", "--device", "cpu", *files]) == 0
    assert (tmp_path / "out").read_bytes() == text
    said = f"smoe-ds translate: {tmp_path}/in: is empty, so there is nothing to translate\n"
    assert capsys.readouterr().err == ("" if text else said)


@pytest.mark.parametrize("way", ["name", "symbolic link", "hard link", "input redirected", "output redirected"])
def test_the_input_is_never_the_output(run_dir: Path, tmp_path: Path, way: str) -> None:
    text, other = tmp_path / "in", tmp_path / "other"
    text.write_bytes(b"The house sees snow.\n")
    if way == "symbolic link":
        other.symlink_to(text)
    elif way == "hard link":
        other.hardlink_to(text)
    output = other if "link" in way else text
    files = ["--output", str(output)] if way != "output redirected" else []
    files += ["--input", str(text)] if way != "input redirected" else []
    command = [*COMMAND, str(run_dir), "--to", "nso", "--device", "cpu", *files]
    with text.open("rb") as source, (text if way == "output redirected" else Path(os.devnull)).open("ab") as sink:
        done = subprocess.run(
            command, stdin=source, stdout=sink, stderr=subprocess.PIPE, timeout=120, env=ENVIRONMENT, check=False
        )
    assert done.returncode == 2
    name = "stdin" if way == "input redirected" else str(text)
    assert done.stderr.decode() == f"{name}: is the output too, and would be lost; write to another file\n"
    assert text.read_bytes() == b"The house sees snow.\n"


def test_what_is_no_file_may_be_both(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--input", os.devnull, "--output", os.devnull]
    assert main(["translate", str(run_dir), "--to", "nso", "--device", "cpu", *files]) == 0
    said = "smoe-ds translate: /dev/null: is empty, so there is nothing to translate\n"
    assert capsys.readouterr() == ("", said)


def test_compressed_input_is_named(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.gz").write_bytes(gzip.compress(b"The house sees snow.\n"))
    (tmp_path / "out").write_text("of an earlier day\n", encoding="utf-8")
    files = ["--input", str(tmp_path / "in.gz"), "--output", str(tmp_path / "out")]
    assert main(["translate", str(run_dir), "--to", "nso", "--device", "cpu", *files]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path}/in.gz: is compressed with gzip; unpack it")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "of an earlier day\n"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", "checkpoints/latest"])
def test_a_file_of_the_run_is_never_written(run_dir: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run_dir / name).read_bytes()
    assert main(["translate", str(run_dir), "--to", "nso", "--device", "cpu", "--output", str(run_dir / name)]) == 2
    assert "is a file in the folder of the model" in capsys.readouterr().err
    assert (run_dir / name).read_bytes() == before


@pytest.mark.parametrize(("source", "warned"), [("eng", False), ("cat", True)])
def test_a_direction_without_training_text_is_said(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, warned: bool
) -> None:
    (tmp_path / "in").write_text("The house sees snow.\n", encoding="utf-8")
    files = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(["translate", str(run_dir), "--from", source, "--to", "nso", "--device", "cpu", *files]) == 0
    assert ("was not trained on cat-nso" in capsys.readouterr().err) == warned


def test_invalid_utf8_is_placed_and_what_comes_before_is_answered(run_dir: Path) -> None:
    done = translate(run_dir, b"The house sees snow.\nb\xffd\nTwo birds.\n")
    assert done.returncode == 2
    assert done.stdout.count(b"\n") == 1
    assert done.stderr.decode().startswith("stdin: line 2, byte offset 22 (1 in the line): 0xff is not UTF-8")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "xyz"], "no token for language 'xyz'; the vocabulary knows: cat, eng, nso"),
        (["--to", "nso", "--from", "xyz"], "no token for language 'xyz'"),
        (["--to", "nso", "--checkpoint", "77"], "no checkpoint 77"),
        (["--to", "nso", "--checkpoint", "newest"], "expected best, last or the number of a step"),
        (["--to", "nso", "--beam", "0"], "expected a whole number, 1 or more"),
        (["--to", "nso", "--beam", "five"], "expected a whole number, 1 or more"),
        (["--to", "nso", "--set", "smoe.decode.beam_sise=1"], "did you mean smoe.decode.beam_size"),
        (["--to", "nso", "--length-penalty", "-1"], "smoe.decode.length_penalty: expected a value >= 0"),
        (["--to", "nso", "--input", "/nowhere/text"], "/nowhere/text: cannot be opened"),
        ([], "--to"),
    ],
)
def test_mistakes_are_named(
    run_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["translate", str(run_dir), "--device", "cpu", *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == "" and "Traceback" not in err


def test_no_run_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", str(tmp_path / "nowhere"), "--to", "nso"]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_a_closed_pipe_is_quiet(run_dir: Path) -> None:
    command = [*COMMAND, str(run_dir), "--to", "nso", "--device", "cpu", "--chunk", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"The house sees snow.\n" * 500)
        process.stdin.close()
        assert process.stdout.readline().endswith(b"\n")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def test_an_interrupt_is_quiet(run_dir: Path) -> None:
    command = [*COMMAND, str(run_dir), "--to", "nso", "--device", "cpu", "--chunk", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"The house sees snow.\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith(b"\n"), "--chunk 1 answers before the input ends"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert b"Traceback" not in process.stderr.read()
