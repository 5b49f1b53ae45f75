"""A checkpoint is logical: any world size, ep_size, ZeRO stage, precision or offload reads what any other wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.checkpoints.format import read_state, read_weights, resolve_checkpoint
from smoe_ds.errors import CheckpointError
from tests.helpers.engines import Setup, full_state, make_engine, train
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank

STOP, END = 2, 4
WRITER = (2, Setup(1, ep_size=2))
READERS = {
    1: [Setup(0), Setup(2), Setup(1, "bf16", gradient_dtype="fp32"), Setup(2, "fp16", offload=True)],
    2: [Setup(0, ep_size=2), Setup(2, ep_size=1)],
    4: [Setup(1, ep_size=2), Setup(2, ep_size=1, offload=True)],
}


def _write(rank: int, world_size: int, root: Path, setup: Setup) -> tuple[dict[str, torch.Tensor], list[float]]:
    from smoe_ds.engine.checkpoint import save_checkpoint
    from smoe_ds.engine.fragments import MASTER, fragments, publish_masters

    engine = make_engine(rank, world_size, setup)
    train(engine, rank, world_size, 0, STOP)
    for fragment in fragments(engine).values():  # every piece of every weight gets a zero with a sign
        fragment.view(engine.basic_optimizer, MASTER)[:1] = -0.0
    publish_masters(engine)
    save_checkpoint(engine, root, STOP, {"step": STOP}, keep_last=1)
    return _optimizer_state(engine), train(engine, rank, world_size, STOP, END)


def _read(rank: int, world_size: int, root: Path, setups: list[Setup]) -> list[Any]:
    from smoe_ds.engine.checkpoint import load_checkpoint, save_checkpoint

    results = []
    for number, setup in enumerate(setups):
        engine = make_engine(rank, world_size, setup)
        extra = load_checkpoint(engine, root)
        state = full_state(engine)
        masters = {name: state[f"model/{name}"] for name, _ in engine.module.named_parameters()}
        again = root.with_name(f"again-{world_size}-{number}")
        save_checkpoint(engine, again, STOP, {}, keep_last=1)
        counters = (engine.global_steps, engine.global_samples, engine.micro_steps)
        results.append((extra, _optimizer_state(engine), masters, counters, train(engine, rank, world_size, STOP, END)))
        engine.destroy()
    return results


def _optimizer_state(engine: Any) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in full_state(engine).items() if not name.startswith("model/")}


def _refuse(rank: int, world_size: int, root: Path, setups: list[Setup]) -> list[str]:
    from smoe_ds.engine.checkpoint import load_checkpoint

    messages = []
    for setup in setups:
        engine = make_engine(rank, world_size, setup)
        with pytest.raises(CheckpointError) as error:
            load_checkpoint(engine, root)
        messages.append(str(error.value))
        engine.destroy()
    return messages


def _merged(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The union over ranks; every name comes from exactly one of them."""
    merged: dict[str, torch.Tensor] = {}
    for part in parts:
        assert not set(part) & set(merged)
        merged |= part
    return merged


def _bits(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor], list[float]]:
    root = tmp_path_factory.mktemp("topology") / "written"
    results = run_ranks(_write, WRITER[0], root, WRITER[1])
    return root, _merged([state for state, _ in results]), results[0][1]


@pytest.mark.parametrize("world_size", READERS)
def test_any_topology_reads_it(written: tuple[Path, dict[str, torch.Tensor], list[float]], world_size: int) -> None:
    root, state, losses = written
    by_rank = run_ranks(_read, world_size, root, READERS[world_size], timeout=240)
    for number, setup in enumerate(READERS[world_size]):
        results = [rank_results[number] for rank_results in by_rank]
        assert _bits(_merged([result[1] for result in results])) == _bits(state), setup
        again = read_weights(resolve_checkpoint(root.with_name(f"again-{world_size}-{number}")))
        assert _bits(again) == _bits(read_weights(resolve_checkpoint(root))), setup
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[setup.precision]
        for extra, _, parameters, counters, continued in results:
            assert extra == {"step": STOP}
            assert counters == (STOP, STOP * 4, STOP * 4 // world_size)
            for name, parameter in parameters.items():
                assert torch.equal(parameter, state[f"master/{name}"].to(dtype).float()), (setup, name)
            tolerance = 1e-5 if setup.precision == "fp32" else 3e-2
            assert continued == pytest.approx(losses, rel=tolerance), setup


def test_weights_are_read_without_deepspeed_and_fit_the_whole_model(
    written: tuple[Path, dict[str, torch.Tensor], list[float]],
) -> None:
    root, state, _ = written
    folder = resolve_checkpoint(root)
    weights = read_weights(folder)
    assert _bits({f"master/{n}": t for n, t in weights.items()}) == _bits(
        {n: t for n, t in state.items() if n.startswith("master/")}
    )
    assert all(torch.any((t == 0) & torch.signbit(t)) for t in weights.values())
    numbers = {name.split(".experts.")[1].split(".")[0] for name in weights if ".experts." in name}
    assert numbers == {"0", "1", "2", "3", "4", "5"}
    assert len(list(folder.glob("model-*.safetensors"))) == 2  # both ranks wrote
    topology = read_state(folder)["topology"]
    assert (topology["world_size"], topology["zero_stage"], topology["expert_groups"]) == (2, 1, ["ep_size_2"])


def test_another_model_is_refused_on_all_ranks(
    written: tuple[Path, dict[str, torch.Tensor], list[float]],
) -> None:
    root = written[0]
    bigger, smaller = Setup(strata=(4, 4)), Setup(strata=(2, 2))
    for messages in run_ranks(_refuse, 2, root, [bigger, smaller]):
        assert "parameters of the model are not in the checkpoint" in messages[0]
        assert "in the checkpoint," in messages[1] or "not in this model" in messages[1]
