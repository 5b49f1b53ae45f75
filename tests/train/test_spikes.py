"""A spike is judged by the median of what was taken, and the judgement survives a checkpoint."""

from __future__ import annotations

import json
import math

from smoe_ds.train.spikes import SpikeDetector


def test_limits_follow_the_median_of_the_window() -> None:
    spikes = SpikeDetector(2.0, 4)
    spikes.add(3.0, 1.0)
    assert spikes.limit("loss") == math.inf  # too little was seen
    spikes.add(5.0, 9.0)
    assert (spikes.limit("loss"), spikes.limit("norm")) == (8.0, 10.0)
    for _ in range(4):
        spikes.add(1.0, 2.0)
    assert (spikes.limit("loss"), spikes.limit("norm")) == (2.0, 4.0)  # what left the window is forgotten


def test_without_a_factor_nothing_is_a_spike() -> None:
    spikes = SpikeDetector(None, 2)
    for _ in range(4):
        spikes.add(1.0, 1.0)
    assert spikes.limit("loss") == math.inf
    assert spikes.state() == {"loss": [], "norm": []}


def test_state_is_json_and_fits_another_window() -> None:
    spikes = SpikeDetector(3.0, 5)
    for loss in (1.0, 2.0, 30.0):
        spikes.add(loss, loss)
    again = SpikeDetector(3.0, 2)
    again.restore(json.loads(json.dumps(spikes.state())))
    assert again.state() == {"loss": [2.0, 30.0], "norm": [2.0, 30.0]}
