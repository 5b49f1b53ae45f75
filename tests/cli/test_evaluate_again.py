"""``smoe-ds evaluate``: goes on where it was killed, tests against another run, groups, spBLEU, COMET and formats."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from smoe_ds.cli.main import main
from smoe_ds.data.corpus import Corpus
from smoe_ds.evaluate.metrics import Metrics
from smoe_ds.evaluate.scores import Evaluation
from smoe_ds.evaluate.significance import paired_tests
from smoe_ds.report.scores import SMALL, scores_page

DIRECTIONS = ["cat-eng", "eng-cat", "eng-nso", "nso-eng"]
ONE = ("--directions", "eng-nso", "--limit", "3", "--bootstrap", "0", "--samples", "0")


def evaluate(run: Path, output: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    assert main(["evaluate", str(run), "--device", "cpu", "--output", str(output), *arguments]) == code
    return content_of(output) if code == 0 else {}


KILLED = """
import os, signal, sys
from smoe_ds.cli.main import main
from smoe_ds.evaluate.records import Records

write = Records.write

def write_or_die(records, direction, done):
    if direction == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    write(records, direction, done)

Records.write = write_or_die
main(sys.argv[2:])
"""


def killed(direction: str, run: Path, output: Path, *arguments: str) -> None:
    """An evaluation that is killed when a direction is translated, before its record is written."""
    words = ["evaluate", str(run), "--device", "cpu", "--output", str(output), *arguments]
    done = subprocess.run([sys.executable, "-c", KILLED, direction, *words], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL


def content_of(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    for result in content["directions"].values():
        result["seconds"] = 0
    return content


@pytest.fixture(scope="module")
def undisturbed(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "scores.json"
    evaluate(run_dir, output, "--untrained")
    return output


def test_a_killed_evaluation_goes_on_where_it_was(
    run_dir: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scores.json"
    killed("eng-nso", run_dir, output, "--untrained")
    assert not output.exists()
    capsys.readouterr()
    again = evaluate(run_dir, output, "--untrained")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    before = [line.endswith("20 of 20 sentences, translated before") for line in lines]
    assert before == [True, True, False, False]
    assert again == content_of(undisturbed)
    for direction in DIRECTIONS:
        name = f"translations/test.{direction}.txt"
        assert (tmp_path / name).read_bytes() == (undisturbed.parent / name).read_bytes()


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ((), (), True),
        ((), ("--tokenize", "char"), True),
        ((), ("--beam", "1"), False),
        ((), ("--checkpoint", "60"), False),
        ((), ("--dtype", "bfloat16"), False),
        ((), ("--dtype", "int8"), False),
        ((), ("--untrained",), False),
        ((), ("--again",), False),
    ],
    ids=str,
)
def test_only_translations_that_would_be_the_same_are_taken(
    run_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    before: tuple[str, ...],
    after: tuple[str, ...],
    kept: bool,
) -> None:
    evaluate(run_dir, tmp_path / "scores.json", *ONE, *before)
    capsys.readouterr()
    evaluate(run_dir, tmp_path / "scores.json", *ONE, *after)
    assert ("translated before" in capsys.readouterr().err) is kept


def test_a_damaged_record_counts_for_nothing(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = evaluate(run_dir, tmp_path / "scores.json", *ONE)
    record = tmp_path / "translations/test.eng-nso.json"
    record.write_bytes(record.read_bytes()[:-9])
    (tmp_path / "translations/test.eng-nso.json.tmp-1234").touch()
    capsys.readouterr()
    assert evaluate(run_dir, tmp_path / "scores.json", *ONE) == first
    assert "translated before" not in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "translations").iterdir()) == [
        "test.eng-nso.json",
        "test.eng-nso.txt",
    ]


def test_translations_that_cannot_be_written_are_told(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "translations/test.eng-nso.txt").mkdir(parents=True)
    evaluate(run_dir, tmp_path / "scores.json", *ONE, code=2)
    assert "translations: cannot be written (Is a directory); free space there" in capsys.readouterr().err
    assert not (tmp_path / "scores.json").exists()
    assert not list(tmp_path.rglob("*.tmp-*"))


def test_against_another_run(
    run_dir: Path, undisturbed: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--checkpoint", "60", "--against", str(undisturbed), "--bootstrap", "100", "--trials", "100")
    report = evaluate(run_dir, tmp_path / "scores.json", *arguments)
    out = capsys.readouterr().out
    assert report["against"]["folder"] == "step_00000030"
    other = content_of(undisturbed)["directions"]
    for name, result in report["directions"].items():
        found = result["against"]
        assert (found["bleu"], found["chrf"]) == pytest.approx((other[name]["bleu"], other[name]["chrf"]))
    texts = [path / "translations/test.eng-nso.txt" for path in (tmp_path, undisturbed.parent)]
    own, others = (text.read_text(encoding="utf-8").split("\n")[:-1] for text in texts)
    references = corpus.text_files("test", "eng-nso")[1].read_text(encoding="utf-8").splitlines()
    expected = paired_tests(Metrics(), own, others, references, 100, 100)
    assert report["directions"]["eng-nso"]["against"] == expected.__dict__
    evaluation = Evaluation.from_json(json.loads((tmp_path / "scores.json").read_text(encoding="utf-8")))
    assert out.rstrip("\n") == scores_page(evaluation).text()
    assert SMALL in out and "p randomisation" in out


def test_a_run_on_other_text_is_no_one_to_test_against(
    run_dir: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = ("--against", str(undisturbed))
    evaluate(run_dir, tmp_path / "a.json", "--limit", "3", *against, code=2)
    assert "is of another text (test, 20 sentences, not these 3)" in capsys.readouterr().err
    evaluate(run_dir, tmp_path / "a.json", *against, "--bootstrap", "0", code=2)
    assert "--against: needs the bootstrap" in capsys.readouterr().err
    copy = tmp_path / "copy"
    shutil.copytree(undisturbed.parent, copy)
    with (copy / "translations/test.eng-nso.txt").open("a") as file:
        file.write("one more\n")
    evaluate(run_dir, tmp_path / "a.json", "--against", str(copy), code=2)
    assert "test.eng-nso.txt: has 21 lines, expected 20" in capsys.readouterr().err
    for missing, message in (("/nowhere", "/nowhere: no such run"), (str(tmp_path), "run smoe-ds evaluate")):
        evaluate(run_dir, tmp_path / "a.json", "--against", missing, code=2)
        assert message in capsys.readouterr().err
    config = str(run_dir / "config.json")
    evaluate(run_dir, tmp_path / "a.json", "--against", config, code=2)
    assert f"{config}: does not hold the scores of an evaluation" in capsys.readouterr().err
    assert not (tmp_path / "a.json").exists()


def test_translations_that_were_not_scored_are_not_tested_against(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An evaluation of another checkpoint was killed half-way, and left some of its translations."""
    two = ("--directions", "eng-nso,nso-eng", "--limit", "3", "--bootstrap", "100", "--trials", "10")
    others, own = tmp_path / "others.json", tmp_path / "own.json"
    evaluate(run_dir, others, *two)
    file = tmp_path / "others.translations/test.eng-nso.txt"
    before = file.read_bytes()
    killed("nso-eng", run_dir, others, *two, "--checkpoint", "60")
    assert file.read_bytes() != before
    capsys.readouterr()
    evaluate(run_dir, own, *two, "--against", str(others), code=2)
    err = capsys.readouterr().err
    assert f"{file}: holds other translations than those scored in {others}" in err
    assert f"evaluate {others} again" in err and len(err.splitlines()) == 1
    assert not own.exists()
    evaluate(run_dir, others, *two)
    assert file.read_bytes() == before
    evaluate(run_dir, own, *two, "--against", str(others))
    content = json.loads(others.read_text(encoding="utf-8"))
    for result in content["directions"].values():
        del result["translations_sha256"]  # scores of an earlier version
    others.write_text(json.dumps(content))
    evaluate(run_dir, own, *two, "--against", str(others), code=2)
    assert f"{others}: does not say which translations were scored" in capsys.readouterr().err


def test_an_evaluation_is_not_tested_against_what_it_replaces(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    first = evaluate(run_dir, own / "scores.json", *ONE)
    (tmp_path / "link").symlink_to(own)
    arguments = (*ONE[:4], "--checkpoint", "60", "--bootstrap", "100")
    for other in (own, tmp_path / "link/scores.json"):
        evaluate(run_dir, own / "scores.json", *arguments, "--against", str(other), code=2)
        err = capsys.readouterr().err
        assert f"--against {other}: this evaluation would replace the scores" in err and "--output" in err
    assert content_of(own / "scores.json") == first
    evaluate(run_dir, tmp_path / "other.json", *arguments, "--against", str(own))


def test_groups_of_a_file(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = tmp_path / "groups.yaml"
    groups.write_text("low: [nso]\nhigh: [cat]\n")
    arguments = ("--limit", "2", "--bootstrap", "0", "--groups", str(groups))
    report = evaluate(run_dir, tmp_path / "scores.json", *arguments)
    assert list(report["averages"]) == [
        *("eng-xxx", "eng-xxx high", "eng-xxx low"),
        *("xxx-eng", "xxx-eng high", "xxx-eng low", "all"),
    ]
    assert report["averages"]["eng-xxx low"]["chrf"] == report["directions"]["eng-nso"]["chrf"]
    assert "mean of 1 eng-xxx low" in capsys.readouterr().out


def test_spbleu_where_its_model_is_at_hand(
    run_dir: Path,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the corpus's own SentencePiece model in the place of flores200's."""
    for module in ("sacrebleu.utils", "sacrebleu.tokenizers.tokenizer_spm"):
        monkeypatch.setattr(f"{module}.SACREBLEU_DIR", str(tmp_path))
    report = evaluate(run_dir, tmp_path / "scores.json", *ONE)
    assert report["directions"]["eng-nso"]["spbleu"] is None and "spBLEU" not in report["signatures"]
    assert "no spBLEU: " in (err := capsys.readouterr().err) and "flores200sacrebleuspm: missing; download it" in err
    model = tmp_path / "models/flores200sacrebleuspm"
    model.parent.mkdir()
    model.write_text("no model")
    evaluate(run_dir, tmp_path / "scores.json", *ONE, code=2)
    assert "is no SentencePiece model" in capsys.readouterr().err
    shutil.copy(corpus.tokenizer.model_file, model)
    report = evaluate(run_dir, tmp_path / "scores.json", *ONE)
    hypotheses = (tmp_path / "translations/test.eng-nso.txt").read_text(encoding="utf-8").split("\n")[:-1]
    references = corpus.text_files("test", "eng-nso")[1].read_text(encoding="utf-8").splitlines()[:3]
    assert report["directions"]["eng-nso"]["spbleu"] == Metrics("flores200").score(hypotheses, references).bleu
    assert "tok:flores200" in report["signatures"]["spBLEU"] and "tok:13a" in report["signatures"]["BLEU"]
    out, err = capsys.readouterr()
    assert "spBLEU" in out.splitlines()[0] and "no spBLEU" not in err


@pytest.mark.parametrize("form", ["json", "markdown", "latex"])
def test_formats(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    output = tmp_path / "scores.json"
    evaluate(run_dir, output, *ONE, "--format", form)
    out = capsys.readouterr().out
    content = json.loads(output.read_text(encoding="utf-8"))
    page = scores_page(Evaluation.from_json(content))
    if form == "json":
        assert json.loads(out) == content
    else:
        assert out == f"{page.markdown() if form == 'markdown' else page.latex()}\n"
    assert ("\\begin{tabular}" in out, "| eng-nso | 3 |" in out) == (form == "latex", form == "markdown")


def comet_folder(folder: Path) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("hparams.yaml", "checkpoints/model.ckpt"):
        (folder / name).write_text("class_identifier: regression_metric\n")
    return folder


def test_comet_needs_a_model_and_its_package(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(run_dir, tmp_path / "a.json", *ONE, "--comet", str(tmp_path), code=2)
    assert "is no COMET model, hparams.yaml and checkpoints/model.ckpt missing" in capsys.readouterr().err
    folder = comet_folder(tmp_path / "comet")
    evaluate(run_dir, tmp_path / "a.json", *ONE, "--comet", str(folder), code=2)
    installed = find_spec("comet") is not None
    message = "cannot be loaded" if installed else "needs the package unbabel-comet; install it with pip install"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.json").exists()


def test_a_comet_model_that_cannot_be_loaded_costs_no_translations(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package is a stand-in, whose functions have the names and arguments of unbabel-comet 2.2.7."""
    package = tmp_path / "packages/comet"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "class Model:\n"
        "    def predict(self, samples, batch_size, gpus, num_workers, progress_bar):\n"
        "        class Found:\n"
        "            system_score = sum(len(s['src']) + 2 * len(s['mt']) + 3 * len(s['ref']) for s in samples)\n"
        "        return Found\n"
        "def load_from_checkpoint(checkpoint_path, reload_hparams, local_files_only):\n"
        "    if 'broken' in checkpoint_path:\n"
        "        raise OSError('no encoder\\nhere')\n"
        "    return Model()\n"
    )
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "comet", raising=False)
    broken, whole = (comet_folder(tmp_path / name) for name in ("broken", "whole"))
    evaluate(run_dir, tmp_path / "a.json", *ONE, "--comet", str(broken), code=2)
    assert "cannot be loaded (OSError: no encoder); nothing is downloaded here" in capsys.readouterr().err
    report = evaluate(run_dir, tmp_path / "a.json", *ONE, "--comet", str(whole))
    out, err = capsys.readouterr()
    assert "translated before" in err and "COMET" in out.splitlines()[0]
    assert report["directions"]["eng-nso"]["comet"] > 0
    monkeypatch.delitem(sys.modules, "comet", raising=False)
