"""What DeepSpeed's own ``save_checkpoint`` wrote, against the weights of the engine that wrote it."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.errors import CheckpointError
from smoe_ds.weights.deepspeed_files import find_checkpoint, logical_names, read_deepspeed_checkpoint
from tests.helpers.engines import Setup, full_state, make_engine, train
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank

STEPS = 2
CASES = {
    1: [Setup(0), Setup(1, "fp16", offload=True)],
    2: [
        Setup(0, ep_size=2),
        Setup(1, ep_size=1),
        Setup(2, ep_size=2),
        Setup(1, "bf16", ep_size=2, gradient_dtype="fp32"),
        Setup(0, "bf16", ep_size=2),
    ],
    4: [Setup(2, "fp16", ep_size=2)],
}


def save(rank: int, world_size: int, root: Path, setups: list[Setup]) -> list[dict[str, torch.Tensor]]:
    """Saves one checkpoint per set-up; the fp32 weights that this rank owns."""
    results = []
    for number, setup in enumerate(setups):
        engine = make_engine(rank, world_size, setup)
        train(engine, rank, world_size, 0, STEPS)
        engine.save_checkpoint(str(root / f"{world_size}-{number}"), tag="two")
        state = full_state(engine)
        results.append({n.removeprefix("master/"): t for n, t in state.items() if n.startswith("master/")})
        engine.destroy()
    return results


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[int, int], dict[str, torch.Tensor]]]:
    """The root of the checkpoints ``WORLD-NUMBER`` and the weights of each."""
    root = tmp_path_factory.mktemp("deepspeed")
    weights: dict[tuple[int, int], dict[str, torch.Tensor]] = {}
    for world_size, setups in CASES.items():
        for number, parts in enumerate(zip(*run_ranks(save, world_size, root, setups, timeout=240), strict=True)):
            weights[world_size, number] = {name: tensor for part in parts for name, tensor in part.items()}
    return root, weights


@pytest.mark.parametrize(("world_size", "number"), [(w, n) for w, setups in CASES.items() for n in range(len(setups))])
def test_weights_are_the_engine_s(
    saved: tuple[Path, dict[tuple[int, int], dict[str, torch.Tensor]]], world_size: int, number: int
) -> None:
    root, weights = saved
    setup = CASES[world_size][number]
    found = read_deepspeed_checkpoint(find_checkpoint(root / f"{world_size}-{number}", None), trust=True)
    expected = weights[world_size, number]
    assert found.weights.keys() == expected.keys()
    rounded = setup.stage == 0 and setup.precision == "bf16"
    for name, weight in expected.items():
        exact = weight.bfloat16().float() if rounded else weight
        assert torch.equal(found.weights[name], exact), (setup, name)
    assert found.step == STEPS
    assert found.precision == ("bfloat16" if rounded else "float32")


class Planted:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def test_nothing_is_unpickled_without_trust(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("mp_rank_00_model_states.pt", "layer_0_expert_0_mp_rank_00_model_states.pt"):
        (folder / name).write_bytes(pickle.dumps(Planted(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match=r"reading a pickle can run any program .*give --trust"):
        read_deepspeed_checkpoint(find_checkpoint(folder, None), trust=False)
    assert not (tmp_path / "ran").exists()
    torch.save(Planted(tmp_path / "ran"), folder / "mp_rank_00_model_states.pt")
    with pytest.raises(CheckpointError):
        read_deepspeed_checkpoint(folder, trust=True)
    assert (tmp_path / "ran").exists(), "what trust means"


def test_damage_is_named(saved: tuple[Path, dict[tuple[int, int], dict[str, torch.Tensor]]], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved[0] / "2-2", copy)
    expert = copy / "two" / "layer_1_expert_3_mp_rank_00_model_states.pt"
    whole = expert.read_bytes()
    expert.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"layer_1_expert_3.*cannot be read .*damaged"):
        read_deepspeed_checkpoint(copy / "two", trust=True)
    expert.unlink()
    with pytest.raises(CheckpointError, match=r"the pieces of .*experts\..* do not make up the whole"):
        read_deepspeed_checkpoint(copy / "two", trust=True)
    expert.write_bytes(whole)
    (copy / "two" / "zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
    with pytest.raises(CheckpointError, match=r"in the 1 files of ZeRO's do not make up the whole; a file is missing"):
        read_deepspeed_checkpoint(copy / "two", trust=True)


def test_places_without_a_checkpoint_are_named(
    saved: tuple[Path, dict[tuple[int, int], dict[str, torch.Tensor]]], tmp_path: Path
) -> None:
    folder = saved[0] / "1-0"
    assert find_checkpoint(folder, "two") == find_checkpoint(folder / "two", None) == folder / "two"
    with pytest.raises(CheckpointError, match=r"three: has no checkpoint of DeepSpeed's .*there are the tags two"):
        find_checkpoint(folder, "three")
    with pytest.raises(CheckpointError, match=r"name the folder given to engine\.save_checkpoint"):
        find_checkpoint(tmp_path, None)
    (tmp_path / "zero_pp_rank_0_mp_rank_00_model_states.pt").touch()
    with pytest.raises(CheckpointError, match="is of ZeRO stage 3"):
        find_checkpoint(tmp_path, None)


def test_experts_of_another_layer_are_refused() -> None:
    prefix = "ffn.deepspeed_moe.experts.deepspeed_experts."
    weight, number = torch.ones(1), torch.tensor(4)
    stored = {f"{prefix}0.w1": weight, f"{prefix}0.number_in_layer": number, "ffn.experts_norm": weight}
    assert logical_names(stored, Path("x")).keys() == {"ffn.experts.4.w1", "ffn.experts_norm"}
    with pytest.raises(CheckpointError, match="without number_in_layer"):
        logical_names({f"{prefix}0.w1": weight}, Path("x"))
    twice = stored | {f"{prefix}1.w1": weight, f"{prefix}1.number_in_layer": number}
    with pytest.raises(CheckpointError, match=r"has ffn\.experts\.4\.w1 twice"):
        logical_names(twice, Path("x"))
