"""Beats: written in place, whole or not there, and silence by the listener's own clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.watch.beats import BeatFile, Listener, read_beat


def test_a_beat_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "alive" / "rank-3"
    path.parent.mkdir()
    beats = BeatFile(path)
    beats.write({"doing": "a long text, é " * 20})
    inode = path.stat().st_ino
    beats.write({"doing": "short"})
    assert read_beat(path) == {"doing": "short", "token": beats.token, "count": 2}
    assert path.stat().st_ino == inode  # network file systems see a new file late
    beats.remove()
    assert not path.parent.exists()
    with pytest.raises(FileNotFoundError):
        read_beat(path)


def test_no_cut_and_no_flipped_byte_passes_for_a_beat(tmp_path: Path) -> None:
    path = tmp_path / "rank-0"
    beats = BeatFile(path)
    beats.write({"doing": "step 1"})
    whole, beat = path.read_bytes(), read_beat(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert read_beat(path) is None, length
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert read_beat(path) in (None, beat), place  # a digit or a space of the head may be written otherwise
    path.write_bytes(whole + b"left over from a longer beat")
    assert read_beat(path) == beat


def test_what_an_earlier_start_left_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rank-1"
    BeatFile(path).write({"doing": "long ago"})
    listener = Listener(path, longest_pause=2.0)
    for now in range(5):
        listener.look(now)
    assert listener.heard is None
    BeatFile(path).write({"doing": "now"})
    listener.look(5)
    assert listener.heard is not None and listener.heard["doing"] == "now" and listener.quiet == 0


def test_silence_is_counted_while_the_listener_runs(tmp_path: Path) -> None:
    path = tmp_path / "rank-1"
    beats = BeatFile(path)
    listener = Listener(path, longest_pause=2.0)
    for now in (0.0, 1.0):
        beats.write({"doing": "step 1"})
        listener.look(now)
    assert (listener.quiet, listener.over) == (0.0, False)
    listener.look(2.5)
    assert listener.quiet == 1.5
    listener.look(1000)  # the machine slept
    assert listener.quiet == 3.5
    beats.write({"doing": "step 2"})
    listener.look(1001)
    assert listener.quiet == 0
    beats.remove()
    listener.look(1002)
    assert listener.over and listener.heard is not None


def test_a_rank_that_never_came_is_not_over(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "rank-1", longest_pause=2.0)
    for now in range(3):
        listener.look(now)
    assert (listener.heard, listener.over, listener.quiet) == (None, False, 0.0)
