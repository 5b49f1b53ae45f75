"""The report in TensorBoard's files, read back."""

from __future__ import annotations

import html
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_prep.cleaning.clean import DROP_REASONS
from data_prep.cli import main
from data_prep.report.report_file import read_report
from smoe_ds.data.corpus import Corpus
from tests.helpers.disks import small_disk
from tests.helpers.prepared import small_spec, write_lines, write_spec


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[EventAccumulator, dict[str, Any]]:
    """A corpus with odd text, its report written by the command."""
    folder = tmp_path_factory.mktemp("tensorboard")
    spec = small_spec(folder)
    lines = ["<b>A | B</b> `*x*`", "", "12", "\0Some *words*"]
    files = {side: write_lines(folder / side, text)
             for side, text in (("src", lines), ("tgt", ["<b>A | B</b> `*x*`", "x", "12", "z" * 300]))}  # fmt: skip
    spec["pairs"][1]["train"].append(files)
    path = write_spec(folder, spec)
    assert main([str(path), "--quiet", "--tensorboard", str(folder / "events")]) == 0
    events = EventAccumulator(str(folder / "events"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events, {"folder": folder, "report": read_report(Corpus(folder / "corpus").path)}


def scalars(events: EventAccumulator, tag: str) -> list[float]:
    found = events.Scalars(tag)
    assert [event.step for event in found] == list(range(len(found)))
    return [event.value for event in found]


def text(events: EventAccumulator, tag: str) -> str:
    (event,) = events.Tensors(f"{tag}/text_summary")
    return html.unescape(event.tensor_proto.string_val[0].decode())


def test_counts_of_every_pair_and_filter(written: tuple[EventAccumulator, dict[str, Any]]) -> None:
    events, found = written
    texts = [counts for splits in found["report"]["pairs"].values() for counts in splits.values()]
    assert scalars(events, "data/kept") == [counts["kept"] for counts in texts]
    assert scalars(events, "data/read") == [counts.get("read", counts.get("drawn")) for counts in texts]
    occurring = {reason for counts in texts for reason in counts["dropped"]}
    assert occurring >= {"copy", "empty", "no_letters", "length_ratio"}
    tags = {tag.removeprefix("data_dropped/") for tag in events.Tags()["scalars"] if tag.startswith("data_dropped/")}
    assert tags == occurring <= set(DROP_REASONS)
    for reason in occurring:
        assert scalars(events, f"data_dropped/{reason}") == [counts["dropped"].get(reason, 0) for counts in texts]


def test_vocabulary_of_every_language(written: tuple[EventAccumulator, dict[str, Any]]) -> None:
    events, found = written
    languages = found["report"]["vocabulary"]["languages"]
    for name in ("characters_per_token", "tokens_per_sentence", "character_coverage", "vocabulary_used"):
        assert scalars(events, f"data_vocabulary/{name}") == pytest.approx(
            [figures[name] for figures in languages.values()], rel=1e-6
        )


def test_tables_and_examples_as_text(written: tuple[EventAccumulator, dict[str, Any]]) -> None:
    events, found = written
    table = text(events, "data/pairs").splitlines()
    assert table[0].startswith("| pair | text | read | ") and len(table) == 2 + 6
    assert text(events, "data/vocabulary").count("\n") == 2 + 3 - 1
    for pair, splits in found["report"]["pairs"].items():
        for split, counts in splits.items():
            for reason, examples in counts["examples"].items():
                shown = text(events, f"data_examples/{pair}/{split}/{reason}").splitlines()
                expected = [f"| {src} | {tgt} |" for src, tgt in examples]
                assert shown == [f"| {' | '.join(pair.split('-'))} |", "| --- | --- |", *expected]


def test_markup_in_text_stays_text(written: tuple[EventAccumulator, dict[str, Any]]) -> None:
    events, _ = written
    (event,) = events.Tensors("data_examples/eng-cat/train/copy/text_summary")
    raw = event.tensor_proto.string_val[0].decode()
    assert "<b>" not in raw and "*x*" not in raw and raw.splitlines()[2].count("|") == 3


def test_also_for_a_corpus_that_is_there(
    written: tuple[EventAccumulator, dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = written[1]["folder"]
    assert main([str(folder / "spec.yaml"), "--quiet", "--examples", "--tensorboard", str(tmp_path / "again")]) == 0
    out = capsys.readouterr().out
    assert "already prepared" in out and "eng-cat train: copy: 1 dropped" in out and "  <b>A | B</b> `*x*`" in out
    events = EventAccumulator(str(tmp_path / "again"))
    events.Reload()
    assert events.Tags()["scalars"] == written[0].Tags()["scalars"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("file", "is not a folder"),
        ("file/events", "{}/file is not a folder"),
        ("read_only/events/more", "nothing can be written in {}/read_only"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, problem: str
) -> None:
    path = write_spec(tmp_path, small_spec(tmp_path))
    (tmp_path / "file").touch()
    with small_disk(tmp_path / "read_only", "64k"):
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "read_only")], check=True)
        assert main([str(path), "--quiet", "--tensorboard", str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and problem.format(tmp_path) in err and err.count("\n") == 1
    assert not (tmp_path / "corpus").exists()


def test_events_that_fail_in_the_end_leave_the_word_of_the_corpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_spec(tmp_path, small_spec(tmp_path, languages=("nso", "cat", "rus"), size=60))
    with small_disk(tmp_path / "full", "8k"):
        (tmp_path / "full" / "rest").write_bytes(bytes(4096))  # a small report would fit
        assert main([str(path), "--quiet", "--tensorboard", str(tmp_path / "full/events")]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith(f"prepared: {tmp_path}/corpus: ")
    place = f"{tmp_path}/full/events"
    assert err == (
        f"error: --tensorboard {place}: No space left on device; the corpus is there, but not these event files\n"
    )
