"""What a run tells: lines of the console word for word, tags, and who hears it."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.evaluate.metrics import Score
from smoe_ds.evaluate.scores import Sample
from smoe_ds.run.folder import RunFolder
from smoe_ds.train.coverage import Coverage
from smoe_ds.train.duration import format_duration
from smoe_ds.train.log_events import Event, IntervalDone, Introduction, LeftOut, SkippedSteps, Validated
from smoe_ds.train.log_listeners import open_listeners
from smoe_ds.train.meters import Interval, StratumLoad
from smoe_ds.train.progress import Progress
from smoe_ds.train.validation_translations import TranslatedDirection


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-3, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (605, "10m05s"),
        (3600, "1h00m"),
        (7380, "2h03m"),
        (93600, "1d02h"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def interval(*, dense: bool = False, last_step: int | None = 9, loss_scale: float | None = None) -> IntervalDone:
    strata = [StratumLoad(1.0, 1.25, 0.0, 0.5, 2.0, rows=(3.0, 0.0, 5.0)), StratumLoad(0.5, 1.0, 0.125, 0.0, 1.5, 96.0)]
    routing = {
        "auxiliary": {"load_balancing_loss": 1.0625},
        "requested_capacity": {"encoder.1": 1.5, "decoder.1": 1.25},
    }
    means = Interval(
        2.5,
        2.25,
        3000,
        nll_by_direction={"a-b": 2.125},
        **({} if dense else routing | {"strata": {"encoder.1": strata}}),
    )  # type: ignore[arg-type]
    return IntervalDone(
        step=7,
        means=means,
        lr=1e-3,
        norm=0.5,
        seconds=2.0,
        steps=4,
        eta=125.0,
        last_step=last_step,
        loss_scale=loss_scale,
        skipped=SkippedSteps(step=7, not_finite=2, spikes=1),
        epochs={"a-b": 0.5},
        left_out={"a-b": 1, "b-a": 2},
        phases={"data": 0.5, "forward": 1.0, "backward": 1.5, "exchange": 0.25, "optimizer": 0.75},
        memory={"host": 3 * 2**29},
    )


def test_an_interval() -> None:
    event = interval(loss_scale=256.0)
    assert event.lines() == [
        "step 7/9 | loss 2.500 nll 2.250 | balance 1.062 RC 1.38 | lr 1.00e-03 | norm 0.50 | 1,500 tok/s | ETA 2m05s"
    ]
    assert event.scalars() == {
        "train/loss": 2.5,
        "train/nll": 2.25,
        "train/learning_rate": 1e-3,
        "train/gradient_norm": 0.5,
        "train/tokens_per_second": 1500.0,
        "train/seconds_per_step": 0.5,
        "train/loss_scale": 256.0,
        "train/load_balancing_loss": 1.0625,
        "moe_requested_capacity/encoder.1": 1.5,
        "moe_requested_capacity/decoder.1": 1.25,
        "moe_tokens/encoder.1/stratum_0": 1.0,
        "moe_load/encoder.1/stratum_0": 1.25,
        "moe_dropped/encoder.1/stratum_0": 0.0,
        "moe_gate_entropy/encoder.1/stratum_0": 0.5,
        "moe_choices/encoder.1/stratum_0": 2.0,
        "moe_dead/encoder.1/stratum_0": 1,
        "moe_dead/encoder.1/stratum_1": 0,
        "moe_tokens/encoder.1/stratum_1": 0.5,
        "moe_load/encoder.1/stratum_1": 1.0,
        "moe_dropped/encoder.1/stratum_1": 0.125,
        "moe_gate_entropy/encoder.1/stratum_1": 0.0,
        "moe_choices/encoder.1/stratum_1": 1.5,
        "moe_width/encoder.1/stratum_1": 96.0,
        "train/skipped_steps": 2,
        "train/skipped_spikes": 1,
        "data_epochs/a-b": 0.5,
        "train/skipped_sentences": 3,
        "train_nll/a-b": 2.125,
        "time/data (s)": 0.125,
        "time/forward (s)": 0.25,
        "time/backward (s)": 0.375,
        "time/exchange (s)": 0.0625,
        "time/optimizer (s)": 0.1875,
        "memory/host (GiB)": 1.5,
    }
    assert event.overview() == {
        "1 learning/NLL (nat), training": 2.25,
        "1 learning/gradient norm": 0.5,
        "2 balance/busiest expert over the mean": 1.25,
        "2 balance/dead experts": 1,
        "2 balance/most rows dropped (share)": 0.125,
        "2 balance/requested capacity": 1.375,
        "3 speed/tokens per second": 1500.0,
        "3 speed/waiting for data (share)": 0.125,
        "3 speed/waiting for exchange (share)": 0.0625,
    }
    assert list(event.images()) == ["load of experts"]


def test_an_interval_of_a_dense_model_whose_time_is_limited() -> None:
    event = interval(dense=True, last_step=None)
    assert event.lines() == ["step 7 | loss 2.500 nll 2.250 | lr 1.00e-03 | norm 0.50 | 1,500 tok/s | ETA 2m05s"]
    assert not any(tag.startswith("moe_") or "balancing" in tag or "scale" in tag for tag in event.scalars())
    assert not any(tag.startswith("2 balance") for tag in event.overview()) and event.images() == {}


@pytest.mark.parametrize(
    ("best", "coverage", "end"),
    [
        (True, Coverage(30, 0, 30), " | best so far"),
        (False, Coverage(30, 0, 30), ""),
        (True, Coverage(1008, 22, 30_000), " | 1,008 of 30,000 pairs, 22 too long | best so far"),
        (False, Coverage(8, 0, 30), " | 8 of 30 pairs"),
    ],
)
def test_a_validation(best: bool, coverage: Coverage, end: str) -> None:
    event = Validated(step=7, nll={"a-b": 2.0, "b-a": 3.0}, mean=2.5, best=best, coverage=coverage)
    expected = f"step 7 | validation nll 2.500 perplexity 12.2 over 2 directions, worst b-a 3.000{end}"
    assert event.lines() == [expected]
    assert event.scalars() == {
        "valid/nll": 2.5,
        "valid/perplexity": pytest.approx(12.18249396),
        "valid/pairs": coverage.read,
        "valid/skipped_sentences": coverage.too_long,
        "valid/nll/a-b": 2.0,
        "valid/nll/b-a": 3.0,
    }


def test_a_validation_with_routing_and_translations() -> None:
    samples = (Sample("a-b", "snow", "<b>neu</b>", "neu"), Sample("a-b", "two", "zwo", "zwei"))
    translated = {
        "a-b": TranslatedDirection(Score(10.0, 20.0, 1.0), samples),
        "b-a": TranslatedDirection(Score(30.0, 50.0, 1.0), samples[:1]),
    }
    capacity = {"encoder": {"a-b": 1.5, "b-a": 1.25}, "decoder": {"a-b": 1.0, "b-a": 2.0}}
    event = Validated(
        step=7,
        nll={"a-b": 2.0, "b-a": 3.0},
        mean=2.5,
        best=True,
        coverage=Coverage(30, 0, 30),
        requested_capacity=capacity,
        translated=translated,
        tokens=900,
        step_seconds=1.5,
    )
    scalars = event.scalars()
    assert (scalars["progress/tokens"], scalars["progress/seconds"]) == (900.0, 1.5)
    assert {tag: value for tag, value in scalars.items() if tag.startswith("valid_rc")} == {
        "valid_rc_encoder/a-b": 1.5,
        "valid_rc_encoder/b-a": 1.25,
        "valid_rc_decoder/a-b": 1.0,
        "valid_rc_decoder/b-a": 2.0,
    }
    scores = [scalars[tag] for tag in ("valid/bleu", "valid/chrf", "valid_bleu/a-b", "valid_chrf/b-a")]
    assert scores == [20.0, 35.0, 10.0, 50.0]
    assert event.overview() == {"1 learning/NLL (nat), validation": 2.5, "1 learning/BLEU, validation": 20.0}
    texts = event.texts()
    assert list(texts) == ["translations/a-b", "translations/b-a"]
    assert texts["translations/a-b"].splitlines()[:4] == [
        *("source       snow", "translation  <b>neu</b>", "reference    neu", ""),
    ]


def test_a_skipped_step_says_why() -> None:
    event = SkippedSteps(step=4, not_finite=1, spikes=0, why="its gradient is not finite")
    assert event.lines() == ["step 4 skipped: its gradient is not finite"]
    assert event.scalars() == {"train/skipped_steps": 1, "train/skipped_spikes": 0}
    assert interval().skipped.lines() == []


def test_sentences_left_out_are_told_when_they_double() -> None:
    left_out = LeftOut()
    counts = [{}, {"a-b": 1}, {"a-b": 1}, {"a-b": 1, "b-a": 2}, {"a-b": 2, "b-a": 3}, {"b-a": 9}]
    told = [notice for step, count in enumerate(counts) for notice in left_out.notices(count, step)]
    assert [notice.lines()[0].split(" | ")[0] for notice in told] == ["step 1", "step 3", "step 5"]
    assert "3 sentence pairs left out so far" in told[1].text and "most in b-a (2)" in told[1].text


def test_rank_0_hears_and_others_do_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert open_listeners(RunFolder(tmp_path), Progress(), 1) == []
    assert list(tmp_path.iterdir()) == []
    events: list[Event] = [Introduction(about=("a", "b"), config="{}"), interval(dense=True)]
    listeners = open_listeners(RunFolder(tmp_path), Progress(), 0)
    for listener in listeners:
        for event in events:
            listener.hear(event)
        listener.close()
    assert capsys.readouterr().out.splitlines() == ["a", "b", *interval(dense=True).lines()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.jsonl", "tensorboard"]
