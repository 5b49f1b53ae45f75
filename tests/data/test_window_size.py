"""The window where the run does not say: it grows with the budget, not into copies of small directions."""

from __future__ import annotations

import numpy as np
import pytest

from smoe_ds.config.data import DataConfig
from smoe_ds.data.mixture import WHOLE, mixture_shares
from smoe_ds.data.stream import order_settings
from smoe_ds.data.window import Directions
from smoe_ds.data.window_size import usual_window
from tests.helpers.sentences import ComputedSentences
from tests.helpers.streams import LANGUAGE_IDS


def corpus_of(*sizes: int) -> dict[str, ComputedSentences]:
    """Directions with lengths as in translated text."""
    corpus = {}
    for seed, (name, size) in enumerate(zip(("eng-nso", "eng-cat", "cat-eng", "nso-eng"), sizes, strict=False)):
        rng = np.random.default_rng(seed)
        pairs = corpus[name] = ComputedSentences(name, size)
        src = np.clip(np.exp(rng.normal(3.0, 0.6, size)), 1, 250)
        pairs.src_lengths = src.astype(np.int32)  # type: ignore[assignment]
        pairs.tgt_lengths = np.clip(src * np.exp(rng.normal(0, 0.2, size)), 1, 250).astype(np.int32)  # type: ignore[assignment]
    return corpus


@pytest.mark.parametrize(
    ("max_tokens", "sizes", "expected"),
    [
        (100, [10, 20], 98_304),
        (8192, [10**7, 10**7], 98_304),
        (8193, [10**7, 10**7], 98_320),
        (32_768, [10**7, 10**7], 491_520),
        (10**9, [10**6, 10**6], 2 * 10**6),
        (65_536, [100, 10**7], 98_304),
    ],
)
def test_size(max_tokens: int, sizes: list[int], expected: int) -> None:
    assert usual_window(max_tokens, sizes, mixture_shares(sizes, 5.0)) == expected


def test_no_direction_comes_round_in_a_window_that_has_grown() -> None:
    for sizes in ([200_000, 10**6, 10**8], [300_000] * 4):
        shares = mixture_shares(sizes, 5.0)
        window = usual_window(262_144, sizes, shares)
        assert window > 98_304
        assert all(window * share <= size * WHOLE for size, share in zip(sizes, shares, strict=True))


def test_no_copies_in_a_micro_batch() -> None:
    corpus = corpus_of(60_000, 60_000, 90_000, 90_000)
    config = DataConfig(path="unused", temperature=5.0, max_tokens=65_536)
    settings = order_settings(config, corpus, seed=1, max_positions=512)
    assert 98_304 < settings.window < 300_000
    window = Directions(corpus, LANGUAGE_IDS, settings).draw(0, np.zeros(4, np.int64))
    for number in range(len(window.packing)):
        rows = window.packing[number]
        pairs = set(zip(window.direction[rows].tolist(), window.sentence[rows].tolist(), strict=True))
        assert len(pairs) == len(rows)


def test_what_the_run_says_holds() -> None:
    config = DataConfig(path="unused", max_tokens=65_536, window=1000)
    assert order_settings(config, corpus_of(50, 60), seed=1, max_positions=512).window == 1000
