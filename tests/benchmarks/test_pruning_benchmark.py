"""The benchmark of pruning trains, prunes and scores."""

from __future__ import annotations

from tests.benchmarks.pruning import main


def test_pruning_benchmark() -> None:
    arguments = ["--steps", "10", "--keep", "8", "5", "--directions", "eng-nso"]
    whole, pruned = main(arguments)
    assert whole["bleu_pruned"] == whole["bleu_whole"] == pruned["bleu_whole"]
    assert 0.5 < pruned["MiB"] / whole["MiB"] < 0.9
