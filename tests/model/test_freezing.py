"""What the patterns of ``smoe.train.freeze`` name, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.config.load import load_run
from smoe_ds.config.run import RunConfig
from smoe_ds.errors import ConfigError
from smoe_ds.model.freezing import check_freeze, freeze, frozen_names, zero_for_good
from smoe_ds.model.transformer import Transformer
from smoe_ds.planning.plan import make_plan
from tests.helpers.environment import ROOT

NAMES = (
    "embedding.weight",
    "encoder.layers.0.self_attention.out.weight",
    "encoder.layers.0.ffn.experts.0.w1",
    "encoder.layers.0.ffn.experts.10.w1",
    "decoder.layers.0.ffn_norm.weight",
)


def run_of(*settings: str) -> RunConfig:
    return load_run(Path(ROOT) / "ds_configs" / "quickstart.json", list(settings))


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["embedding"], {0}),
        (["embedding.weight"], {0}),
        (["encoder"], {1, 2, 3}),
        (["encoder.*"], {1, 2, 3}),
        (["*attention*"], {1}),
        (["encoder.layers.0.ffn.experts.1*"], {3}),
        (["*.experts.0"], {2}),
        (["encoder.layers.?.ffn.experts.[0-9].w1"], {2}),
        (["*norm*", "embedding"], {0, 4}),
        ([], set()),
    ],
)
def test_patterns(patterns: list[str], expected: set[int]) -> None:
    assert frozen_names(NAMES, patterns) == {NAMES[number] for number in expected}


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["embeding"], "smoe.train.freeze: embeding names no parameter of this model; did you mean embedding?"),
        (["encodr.*"], "encodr.* names no parameter of this model; did you mean encoder?"),
        (["attention"], "attention names no parameter of this model; did you mean *attention*?"),
        (["self_atention"], "did you mean *self_attention*?"),
        (["encoder.layers.7"], "did you mean encoder.layers.0?"),
        (["xyz"], "xyz names no parameter of this model; they begin with embedding, encoder, decoder"),
        (["*"], "['*'] leaves nothing to train; take something out"),
        (["embedding", "encoder", "decoder"], "leaves nothing to train"),
    ],
)
def test_mistakes_are_named(patterns: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        frozen_names(NAMES, patterns)
    assert message in str(caught.value)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)embeding names no.*encodr names no"):
        frozen_names(NAMES, ["embeding", "encodr"])


@pytest.mark.parametrize(
    ("patterns", "settings", "message"),
    [
        (
            '["*.experts.0"]',
            [],
            "of some experts of encoder.layers.1.ffn.experts and not of others, which lie on 2 ranks",
        ),
        (
            '["*.experts"]',
            [],
            "freezes all experts, which DeepSpeed's ZeRO cannot do while they are spread over 2 ranks",
        ),
        ('["*.experts"]', ["zero_optimization.stage=0"], None),
        ('["*.experts"]', ["smoe.moe.ep_size=1"], None),
        ('["*.experts.0"]', ["smoe.moe.ep_size=1"], None),
        ('["*.experts.*.w1", "embedding"]', [], None),
    ],
)
def test_experts_that_are_spread_over_ranks(patterns: str, settings: list[str], message: str | None) -> None:
    run = run_of(f"smoe.train.freeze={patterns}", *settings)
    if message is None:
        assert check_freeze(run)
        return
    with pytest.raises(ConfigError) as caught:
        check_freeze(run)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("patterns", "settings", "first"),
    [
        ([], [], None),
        (["embedding", "*norm*", "*.w1", "*.b2"], [], None),
        (["encoder"], [], "encoder.layers.0.ffn.ffn.w2"),
        (["encoder"], ["smoe.model.ffn_init=linear"], "encoder.layers.1.ffn.experts.*.w2"),
        (["*.experts.[0-5]"], ["smoe.moe.stacked=true"], None),
        (["*.experts.[67]"], ["smoe.moe.stacked=true"], "encoder.layers.1.ffn.experts.*.w2"),
        (["encoder"], ["smoe.model.ffn_init=linear", "smoe.moe.expert_init=linear"], None),
    ],
)
def test_matrices_that_would_stay_0(patterns: list[str], settings: list[str], first: str | None) -> None:
    run = run_of("smoe.model.d_model=16", "smoe.model.d_ffn=16", *settings)
    model = Transformer(run.smoe.model, run.smoe.moe, 8)
    freeze(model, frozen_names(dict(model.named_parameters()), patterns))
    problem = zero_for_good(model)
    assert problem is None if first is None else problem is not None and f"freezes {first}, which is 0" in problem


def test_a_plan_counts_what_is_trained() -> None:
    whole, some = (
        make_plan(run_of(*settings), vocab_size=500) for settings in ([], ['smoe.train.freeze=["embedding"]'])
    )
    embedding = 500 * 128
    assert whole.trainable_parameters == whole.parameters["total"] == some.parameters["total"]
    assert some.trainable_parameters == whole.trainable_parameters - embedding
    assert some.memory["weights"] == whole.memory["weights"]
    assert whole.memory["gradients"] - some.memory["gradients"] == 4 * embedding
    assert whole.memory["optimizer"] - some.memory["optimizer"] == 8 * embedding / whole.world_size


def test_a_plan_of_frozen_experts_counts_those_on_one_device() -> None:
    settings = ["smoe.moe.ep_size=1", 'smoe.train.freeze=["*.experts.[01]"]']
    run = run_of(*settings)
    model = Transformer(run.smoe.model, run.smoe.moe, 500)
    frozen = sum(p.numel() for n, p in model.named_parameters() if ".experts.0." in n or ".experts.1." in n)
    whole, some = (make_plan(run_of(*some), vocab_size=500) for some in (settings[:1], settings))
    assert whole.trainable_parameters - some.trainable_parameters == frozen
    assert whole.memory["optimizer"] - some.memory["optimizer"] == 8 * frozen
