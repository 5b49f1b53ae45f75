"""Where the stream is: it goes on from any step, with any number of ranks, and refuses a place in another order."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from smoe_ds.errors import DataError
from tests.helpers.sentences import ComputedSentences
from tests.helpers.streams import content, data_config, small_corpus, steps_of, train_stream


@pytest.mark.parametrize("prefetch", [False, True])
def test_resumes_identically_from_every_step(prefetch: bool) -> None:
    with train_stream(prefetch=prefetch) as stream:
        positions, steps = [], []
        for _ in range(40):
            positions.append(json.dumps(stream.position()))
            steps += steps_of(stream, 1)
    for start in range(40):
        with train_stream(prefetch=prefetch) as resumed:
            resumed.restore(json.loads(positions[start]))
            assert json.dumps(resumed.position()) == positions[start]
            assert steps_of(resumed, min(3, 40 - start)) == steps[start : start + 3]


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("stop", [1, 5, 9, 23])
def test_resumes_with_another_world_size(stop: int, world_size: int) -> None:
    stream = train_stream(rank=1, world_size=2)
    steps_of(stream, stop)
    position = json.loads(json.dumps(stream.position()))
    whole = train_stream()
    expected = steps_of(whole, stop + 5)[stop:]
    ranks = [train_stream(rank=r, world_size=world_size) for r in range(world_size)]
    for rank in ranks:
        rank.restore(position)
    for step in expected:
        parts = [[content(batch) for batch in rank.next_step().batches] for rank in ranks]
        assert [part[m] for m in range(4 // world_size) for part in parts] == step


def test_micro_batches_per_step_may_change() -> None:
    stream = train_stream(micro_batches_per_step=3)
    steps_of(stream, 5)
    resumed = train_stream(micro_batches_per_step=5)
    resumed.restore(stream.position())
    rest = [batch for step in steps_of(resumed, 3) for batch in step]
    assert rest == [batch for step in steps_of(train_stream(micro_batches_per_step=30), 1) for batch in step][15:]
    assert resumed.position()["steps"] == 8


def test_restoring_backwards_in_the_same_stream() -> None:
    with train_stream(prefetch=True) as stream:
        start = stream.position()
        first = steps_of(stream, 10)
        stream.restore(start)
        assert steps_of(stream, 10) == first


def test_position_is_small_integers_and_ignores_what_was_built_ahead() -> None:
    with train_stream(prefetch=True) as ahead:
        plain = train_stream()
        for _ in range(15):
            ahead.next_step()
            plain.next_step()
            assert ahead.position() == plain.position()
    assert len(json.dumps(ahead.position())) < 1000


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("smoe.train.seed: ", {"seed": 2}),
        ("smoe.data.path: the corpus", {"fingerprint": "beef"}),
        ("smoe.model.max_positions: ", {"max_positions": 65}),
        ("smoe.data.temperature: ", {"config": data_config(temperature=3.0)}),
        ("smoe.data.max_tokens: ", {"config": data_config(max_tokens=601)}),
        ("smoe.data.window: ", {"config": data_config(window=129)}),
        ("smoe.data.source_language_token: ", {"config": data_config(source_language_token=False)}),
        ("directions differ from this run's in eng-run", {"config": data_config(directions=list(small_corpus())[:4])}),
    ],
)
def test_position_of_another_order_is_refused(name: str, other: dict[str, Any]) -> None:
    saved = train_stream()
    steps_of(saved, 3)
    stream = train_stream(**other)
    before = stream.position()
    with pytest.raises(DataError, match=name):
        stream.restore(saved.position())
    assert stream.position() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "expected format 2, found 1"),
        ({"belongs_to": None}, "belongs_to: expected an object"),
        ({"window": -1}, "window: expected an integer >= 0, found -1"),
        ({"offset": 1.5}, "offset: expected an integer"),
        ({"steps": True}, "steps: expected an integer"),
        ({"drawn": None}, "drawn: expected a count per direction"),
        ({"drawn": {}}, "directions differ"),
        ({"window": 7}, "window 7 follows 896 drawn sentences"),
        ({"offset": 10_000}, "offset 10000 lies past"),
    ],
)
def test_damaged_position_is_refused(change: dict[str, Any], message: str) -> None:
    stream = train_stream()
    steps_of(stream, 3)
    with pytest.raises(DataError, match=message):
        train_stream().restore(stream.position() | change)


def test_order_is_pinned() -> None:
    # A change here changes the order of every run: raise position.FORMAT, so that older positions are refused.
    corpus = {
        name: ComputedSentences(name, size) for name, size in (("eng-nso", 50), ("nso-eng", 7), ("eng-cat", 10**7))
    }
    steps = steps_of(train_stream(corpus, seed=3), 20)
    assert hashlib.sha256(json.dumps(steps).encode()).hexdigest()[:16] == "65abaa2a18c58356"


def test_seeds_differ() -> None:
    assert steps_of(train_stream(seed=1), 1) != steps_of(train_stream(seed=2), 1)
