"""The README's walk from a downloaded folder to a table of BLEU, command by command, with a small random model."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

import data_prep.cli
from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import TrainedRun
from tests.helpers.environment import ROOT
from tests.helpers.prepared import sentence, translate, write_lines
from tests.helpers.small_run import train_here
from tests.helpers.transformers_folder import saved_folder

pytestmark = pytest.mark.multirank

CODES = ("cat_Latn", "eng_Latn", "lug_Latn", "nya_Latn", "rus_Cyrl")
LESS = ["smoe.train.max_steps=2", "smoe.train.warmup_steps=1", "smoe.data.max_tokens=160", "smoe.data.window=64"]
"""What the test adds to ``train``, as the recipe's steps of 32,000 tokens take minutes here."""


def section() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.split("## Start from NLLB\n")[1].split("\n## ")[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section(), flags=re.MULTILINE | re.DOTALL)


def lusoga(line: str) -> str:
    """Text with a letter that the small vocabulary lacks."""
    return translate(line, "nso").replace("ka", "ŋa").replace("g", "ŋ")


def write_texts(folder: Path) -> None:
    lines = [f"{sentence(number)} {sentence(number * 7 % 800)}" for number in range(800)]
    for name, text in (
        ("eng-xog.eng.gz", lines),
        ("eng-xog.xog.gz", [lusoga(line) for line in lines]),
        ("eng-lug.eng.gz", lines[:500]),
        ("eng-lug.lug.gz", [translate(line, "nso") for line in lines[:500]]),
    ):
        write_lines(folder / name, text)


def run(words: list[str]) -> None:
    """One command of the document, in this process; training in one of its own."""
    if words[:3] == ["python", "-m", "data_prep"]:
        code, printed = data_prep.cli.main(words[3:]), ""
    elif words[:2] == ["smoe-ds", "train"]:
        assert set(words[3::2]) <= {"--set"}
        code, printed = train_here(Path(words[2]), [*words[4::2], *LESS], timeout=300)
    else:
        assert words[0] == "smoe-ds"
        code, printed = main(words[1:]), ""
    assert code == 0, (words, printed)


def test_from_a_folder_to_a_table_of_bleu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    saved_folder(tmp_path / "nllb-200-distilled-600M", "m2m_100", codes=CODES, rows=0)
    shutil.copytree(ROOT / "ds_configs", "ds_configs")
    write_texts(tmp_path)
    for language, file in (("yaml", "mine.yaml"), ("json", "mine.json")):
        [text] = blocks(language)
        Path(file).write_text(text, encoding="utf-8")
    commands = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines()]
    assert len(commands) == 11
    tables = []
    for words in commands:
        capsys.readouterr()
        run(words)
        if words[1] == "evaluate":
            tables.append(capsys.readouterr().out)
    assert [sum(f"{direction} " in table for direction in ("eng-xog", "xog-eng", "eng-lug")) for table in tables] == [
        3
    ] * 3
    assert "runs/nllb" in tables[1] and "runs/mine" in tables[2]
    check_vocabulary(Path("runs/mine"), Path("mine-for-transformers"))


def check_vocabulary(run_dir: Path, exported: Path) -> None:
    """The corpus, the run and what goes out cut the new language alike, and lose none of it."""
    import transformers

    ours = TrainedRun(run_dir, device="cpu").tokenizer
    assert ours.model_file.read_bytes() == Corpus(Path("data/mine")).tokenizer.model_file.read_bytes()
    theirs = transformers.AutoTokenizer.from_pretrained(exported, src_lang="__xog__")
    spelling = [entry[0] for entry in ours.vocabulary()]
    for line in (lusoga(sentence(number)) for number in range(0, 800, 50)):
        pieces = ours.encode(line)
        assert "ŋ" in line and ours.decode(pieces) == line
        assert theirs.tokenize(line) == [spelling[index] for index in pieces]
    assert transformers.AutoModelForSeq2SeqLM.from_pretrained(exported).config.vocab_size == len(spelling)
