"""A shard that is damaged on one host: all ranks stop, the place is named, and the run goes on once it is fixed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.own_ranks import OwnRanks, processes_that_mention
from tests.helpers.ranks import run_ranks
from tests.helpers.small_run import small_run, train_and_listen, write_run

pytestmark = pytest.mark.multirank


@pytest.mark.parametrize("text", ["train", "valid"])
def test_all_ranks_stop_when_the_copy_of_one_is_damaged(tmp_path: Path, corpus_folder: Path, text: str) -> None:
    for rank in range(2):
        shutil.copytree(corpus_folder, tmp_path / f"corpus{rank}")
    file = write_run(tmp_path / "run.json", small_run(tmp_path / "run", corpus_folder, max_steps=4))
    shards = sorted((tmp_path / "corpus1" / text).rglob("*.bin"))
    good = [shard.read_bytes() for shard in shards]
    for shard, data in zip(shards, good, strict=True):
        shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    ends = run_ranks(_train_on_own_copy, 2, str(file), str(tmp_path), init=False, timeout=120)
    assert [code for code, _ in ends] == [2, 2]
    assert ".bin: content changed at byte offset" in "".join(printed for _, printed in ends)
    assert not (tmp_path / "run/crash.json").exists()  # they agreed on it, and nobody had to be ended
    for shard, data in zip(shards, good, strict=True):
        shard.write_bytes(data)
    ends = run_ranks(_train_on_own_copy, 2, str(file), str(tmp_path), init=False, timeout=120)
    assert [code for code, _ in ends] == [0, 0]


def test_training_ends_in_one_line_and_leaves_nothing_behind(tmp_path: Path, corpus_folder: Path) -> None:
    corpus = shutil.copytree(corpus_folder, tmp_path / "corpus")
    for shard in (corpus / "train").rglob("*.bin"):
        data = shard.read_bytes()
        shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    file = write_run(tmp_path / "run.json", small_run(tmp_path / "run", corpus, max_steps=40, death_deadline=60.0))
    ends = OwnRanks(_train_without_debug, 2, tmp_path / "out", str(file)).wait(120)
    assert processes_that_mention(str(tmp_path)) == []  # nobody writes any more, crash.json least of all
    assert [end.code for end in ends] == [2, 2]
    problem = [line for line in ends[0].output.splitlines() if "reading the corpus failed" in line]
    assert len(problem) == 1 and "content changed at byte offset" in problem[0]
    for words in ("Traceback", "failed first", "continue from the last checkpoint"):
        assert words not in ends[0].output + ends[1].output
    assert not list((tmp_path / "run").glob("alive-*")) and not (tmp_path / "run" / "crash.json").exists()


def _train_without_debug(rank: int, world_size: int, file: str) -> int:
    from smoe_ds.cli.main import main

    return main(["train", file])


def _train_on_own_copy(rank: int, world_size: int, file: str, folder: str) -> tuple[int, str]:
    return train_and_listen(rank, world_size, file, [f'smoe.data.path="{folder}/corpus{rank}"'])
