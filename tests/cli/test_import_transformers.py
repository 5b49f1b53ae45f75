"""``smoe-ds import`` of folders of transformers: what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from smoe_ds.checkpoints.format import read_state
from smoe_ds.cli.main import main
from smoe_ds.decode.load import TrainedRun
from tests.helpers.transformers_folder import saved_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small M2M100 in several files."""
    return saved_folder(tmp_path_factory.mktemp("transformers") / "model", "m2m_100", max_shard_size="60KB")


def import_(folder: Path, output: Path, *arguments: object) -> int:
    return main(["import", str(folder), *map(str, arguments), "--output", str(output)])


def weights_of(run_dir: Path) -> dict[str, torch.Tensor]:
    run = TrainedRun(run_dir, device="cpu")
    return run.weights(run.checkpoint())


def change_json(path: Path, **keys: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) | keys
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def test_what_is_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table"
    table.write_text("zho_Hans zho\n")
    pieces = tmp_path / "pieces"
    pieces.write_text("▁theka\n▁the\nŋ\n", encoding="utf-8")
    added = ["--add-language", "lug=nso,cat", "--languages", table, "--set", "smoe.model.dropout=0.3"]
    added += ["--add-pieces", pieces]
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert import_(folder, tmp_path / "out", *added) == 0
    printed = capsys.readouterr().err
    assert "note: encoder_layerdrop 0.05 is not taken over" in printed
    assert "wrote the m2m_100 model of" in printed and "7 languages" in printed
    assert "note: the vocabulary has 2 new pieces, 0 of them on the way to those asked for" in printed
    assert "note: 1 of the pieces asked for were there already" in printed
    run = TrainedRun(tmp_path / "out", device="cpu")
    assert run.tokenizer.languages == ("cat", "eng", "nso", "rus", "zho", "zho_Hant", "lug")
    smoe = run.config.smoe
    assert (smoe.model.dropout, smoe.model.position_offset, smoe.moe.strata) == (0.3, 2, [])
    assert (smoe.data.source_language_token, smoe.data.target_language_token) == ("source", "after_end")
    assert read_state(run.checkpoint())["origin"]["languages"]["zho"] == "zho_Hans"
    weight, ids = weights_of(tmp_path / "out")["embedding.weight"], run.tokenizer.language_ids
    torch.testing.assert_close(weight[ids["lug"]], (weight[ids["nso"]] + weight[ids["cat"]]) / 2)
    old = weight[run.tokenizer.encode("the")[0]], weight[run.tokenizer.encode("ŋka")[-1]]
    torch.testing.assert_close(weight[run.tokenizer.encode("theka")[0]], sum(old) / 2)
    of_pieces = [index for index, (_, kind) in enumerate(run.tokenizer.vocabulary()) if kind == "normal"][:-2]
    torch.testing.assert_close(weight[run.tokenizer.encode("ŋ")[-1]], weight[of_pieces].mean(dim=0))


def test_a_run_file_gives_what_is_not_the_models(folder: Path, tmp_path: Path) -> None:
    run_file = tmp_path / "run.json"
    smoe = {
        "model": {"d_model": 8, "num_heads": 2},
        "moe": {"strata": [4, 4]},
        "data": {"path": "here", "max_tokens": 77},
        "train": {"output_dir": "there"},
    }
    run_file.write_text(
        json.dumps({"train_batch_size": 2, "optimizer": {"type": "Adam", "params": {"lr": 0.5}}} | {"smoe": smoe})
    )
    assert import_(folder, tmp_path / "out", run_file) == 0
    config = TrainedRun(tmp_path / "out", device="cpu").config
    assert (config.peak_lr, config.smoe.data.max_tokens, config.smoe.data.path) == (0.5, 77, "here")
    assert (config.smoe.model.d_model, config.smoe.moe.strata) == (32, [])


def test_pickled_weights_are_the_same_but_need_trust(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}
    for zipped in (True, False):
        pickled = tmp_path / f"pickled_{zipped}"
        shutil.copytree(folder, pickled, ignore=shutil.ignore_patterns("*.safetensors*"))
        torch.save(state, pickled / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        assert import_(pickled, tmp_path / "out") == 2
        assert "pytorch_model.bin: is pickled" in capsys.readouterr().err
        assert import_(pickled, tmp_path / f"out_{zipped}", "--trust") == 0
    assert import_(folder, tmp_path / "safe") == 0
    expected = weights_of(tmp_path / "safe")
    for zipped in (True, False):
        found = weights_of(tmp_path / f"out_{zipped}")
        assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_the_shared_embedding_may_have_any_of_its_names(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "folder")
    for path in (tmp_path / "folder").glob("model-*.safetensors"):
        state = {name.replace("model.shared.weight", "lm_head.weight"): w for name, w in load_file(path).items()}
        table = {"model.encoder.embed_positions.weights": torch.zeros(4, 2)} if "lm_head.weight" in state else {}
        save_file(state | table, path, metadata={"format": "pt"})
    for source, output in ((folder, "one"), (tmp_path / "folder", "other")):
        assert import_(source, tmp_path / output) == 0
    one, other = (weights_of(tmp_path / output) for output in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_null_is_as_left_out(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "folder")
    keys = ["dropout", "scale_embedding", "activation_function", "bos_token_id", "decoder_start_token_id"]
    for name, changed in (("config.json", [*keys, "encoder_layerdrop"]), ("tokenizer_config.json", ["language_codes"])):
        Spoil.json(name, **dict.fromkeys(changed))(tmp_path / "folder")
    assert import_(tmp_path / "folder", tmp_path / "out") == 0
    model = TrainedRun(tmp_path / "out", device="cpu").config.smoe.model
    assert (model.dropout, model.scale_embedding, model.activation) == (0.1, True, "relu")


@pytest.mark.parametrize(("given", "noted"), [({"layer_norm_eps": 1e-6}, True), ({"layer_norm_eps": 1e-5}, False)])
def test_an_epsilon_that_transformers_ignores(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, float], noted: bool
) -> None:
    shutil.copytree(folder, tmp_path / "folder")
    change_json(tmp_path / "folder" / "config.json", **given)
    assert import_(tmp_path / "folder", tmp_path / "out") == 0
    assert ("--set smoe.model.norm_epsilon=1e-06" in capsys.readouterr().err) == noted
    assert TrainedRun(tmp_path / "out", device="cpu").config.smoe.model.norm_epsilon == 1e-5


HUGE = 10**12


class Spoil:
    """Ways to spoil a folder."""

    @staticmethod
    def config(**keys: Any) -> Callable[[Path], None]:
        return lambda folder: change_json(folder / "config.json", **keys)

    @staticmethod
    def json(name: str, **keys: Any) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            path = folder / name
            content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            path.write_text(json.dumps(content | keys), encoding="utf-8")

        return spoil

    @staticmethod
    def remove(name: str) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            for path in folder.glob(name):
                path.unlink()

        return spoil

    @staticmethod
    def cut_config(folder: Path) -> None:
        (folder / "config.json").write_text('{"model_type": "m2m')

    @staticmethod
    def cut(folder: Path) -> None:
        path = sorted(folder.glob("model-*.safetensors"))[0]
        path.write_bytes(path.read_bytes()[:-100])

    @staticmethod
    def outside(folder: Path) -> None:
        index = folder / "model.safetensors.index.json"
        files = json.loads(index.read_text())["weight_map"]
        change_json(index, weight_map=dict.fromkeys(files, "../../etc/model.safetensors"))

    @staticmethod
    def weight(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
        def spoil(folder: Path) -> None:
            path = sorted(folder.glob("model-*.safetensors"))[0]
            state = load_file(path)
            change(state)
            save_file(state, path, metadata={"format": "pt"})

        return spoil


def nan(state: dict[str, torch.Tensor]) -> None:
    next(iter(state.values())).view(-1)[0] = float("nan")


def eight_bits(state: dict[str, torch.Tensor]) -> None:
    state.update({name: value.to(torch.float8_e4m3fn) for name, value in state.items()})


def left_over(state: dict[str, torch.Tensor]) -> None:
    state["model.encoder.layers.9.fc1.weight"] = torch.zeros(1)


def no_embedding(state: dict[str, torch.Tensor]) -> None:
    state.update({name: torch.zeros(3) for name in state if "shared" in name or "embed" in name})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Spoil.remove("config.json"), "has no config.json of transformers; download the whole folder"),
        (Spoil.cut_config, "config.json: is not JSON"),
        (Spoil.config(model_type="marian"), "model_type is 'marian'; m2m_100 and nllb-moe can be imported"),
        (Spoil.config(d_model="x"), "config.json: d_model: expected a whole number, found 'x'"),
        (Spoil.config(vocab_size=None), "config.json: vocab_size: expected a whole number, found None"),
        (Spoil.config(decoder_ffn_dim=64), "encoder_ffn_dim is 48: decoder_ffn_dim is 64, and here both sides"),
        (Spoil.config(activation_function="silu"), "activation_function is 'silu': here it is relu or gelu"),
        (Spoil.config(tie_word_embeddings=False), "tie_word_embeddings is False: models here have one matrix"),
        (Spoil.config(pad_token_id=0), "pad_token_id is 0: only 1 is supported"),
        (Spoil.config(bos_token_id=2), "bos_token_id is 2: only 0 is supported"),
        (Spoil.config(eos_token_id=3), "eos_token_id is 3: only 2 is supported"),
        (Spoil.config(decoder_start_token_id=0), "decoder_start_token_id is 0: only 2 is supported"),
        (Spoil.json("added_tokens.json", nso_Latn=-3), "its added token 'nso_Latn' has the row -3; download it again"),
        (
            Spoil.json("model.safetensors.index.json", weight_map={"a": ["x"]}),
            "weight_map: expected the name of a file, found ['x']; download it again",
        ),
        (Spoil.config(quantization_config={"bits": 4}), "the weights are quantized"),
        (Spoil.config(encoder_attention_heads=5, decoder_attention_heads=5), "num_heads: 5 does not divide d_model 32"),
        (
            Spoil.config(encoder_ffn_dim=64, decoder_ffn_dim=64),
            "config.json: encoder_ffn_dim is 64, but the weights have 48; download the whole folder again",
        ),
        (Spoil.config(encoder_layers=3), "config.json: encoder_layers is 3, but the weights have 2;"),
        (Spoil.config(encoder_layers=1), "not in this model (model.encoder.layers.1."),
        (Spoil.config(vocab_size=300), "config.json: vocab_size is 300, but the weights have 3"),
        (Spoil.json("added_tokens.json", nso_Latn=900), "the tokenizer has a token 900, but the embedding 3"),
        (
            Spoil.config(max_position_embeddings=HUGE),
            "config.json: max_position_embeddings is 1,000,000,000,000: models here have at most 131,072; correct it",
        ),
        (Spoil.config(max_position_embeddings=-1), "smoe.model.max_positions: expected a value > 2, found -1"),
        (Spoil.config(vocab_size=HUGE), "vocab_size is 1,000,000,000,000, but the weights have 3"),
        (Spoil.config(d_model=HUGE), "d_model is 1,000,000,000,000, but the weights have 32;"),
        (Spoil.config(d_model=-HUGE), "d_model is -1,000,000,000,000, but the weights have 32;"),
        (Spoil.config(encoder_layers=HUGE), "encoder_layers is 1,000,000,000,000: models here have at most 1,000;"),
        (Spoil.config(decoder_layers=900), "decoder_layers is 900, but the weights have 2;"),
        (Spoil.config(encoder_ffn_dim=HUGE, decoder_ffn_dim=HUGE), "encoder_ffn_dim is 1,000,000,000,000, but the w"),
        (Spoil.config(encoder_attention_heads=HUGE, decoder_attention_heads=HUGE), "does not divide d_model 32"),
        (
            Spoil.config(model_type="nllb-moe", num_experts=HUGE, encoder_sparse_step=1, decoder_sparse_step=1),
            "num_experts is 1,000,000,000,000, but no weight with the expected name says so;",
        ),
        (Spoil.weight(no_embedding), "vocab_size is 331, but no weight with the expected name says so;"),
        (Spoil.config(model_type="nllb-moe", num_experts=1), "num_experts is 1: a token takes the two best"),
        (Spoil.config(model_type="nllb-moe", num_experts=4, router_bias=True), "router_bias is True: gates here have"),
        (
            Spoil.config(model_type="nllb-moe", num_experts=4, second_expert_policy="random"),
            "second_expert_policy is 'random': all and sampling have a counterpart",
        ),
        (Spoil.remove("sentencepiece.bpe.model"), "a SentencePiece model is needed, name one with --tokenizer FILE"),
        (Spoil.remove("*token*"), "no file says which tokens are languages"),
        (Spoil.remove("model-00001*"), "is missing; the model consists of"),
        (Spoil.remove("*.safetensors*"), "has no weights (model.safetensors"),
        (Spoil.cut, "is cut or not a safetensors file"),
        (Spoil.outside, "names a file outside of the folder ('../../etc/model.safetensors')"),
        (Spoil.weight(nan), "has NaN or infinite numbers; download it again"),
        (Spoil.weight(eight_bits), "is float8_e4m3fn, expected float32, float16 or bfloat16; take the model that was"),
        (Spoil.weight(left_over), "not in this model (model.encoder.layers.9.fc1.weight)"),
    ],
)
def test_a_folder_that_is_wrong_is_refused_in_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    shutil.copytree(folder, tmp_path / "folder")
    spoil(tmp_path / "folder")
    assert import_(tmp_path / "folder", tmp_path / "out") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "note:" not in line]
    assert len(lines) == 1 and message in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tag", "x"], "which has no tags"),
        (["--add-language", "x-y"], "--add-language x-y: expected a name of letters"),
        (["--add-language", "cat"], "the vocabulary has it already"),
        (["--add-language", "lug", "--add-language", "lug=nso"], "--add-language lug: is given twice"),
        (["--languages", "/nowhere"], "/nowhere: cannot be read"),
        (["--add-pieces", "/nowhere"], "/nowhere: cannot be read"),
        (["--pieces-from", "all"], "--pieces-from: there are no new pieces; name some with --add-pieces"),
        (["--tokenizer", "/nowhere"], "/nowhere: cannot be read"),
        (["--set", "smoe.model.d_ffn=64"], "fc1.weight [48, 32] instead of [64, 32]"),
        (["/nowhere.json"], "/nowhere.json: no such file"),
    ],
)
def test_arguments_that_are_wrong(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert import_(folder, tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_only_one_tensor_is_read_at_a_time(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors are asked for once each, in the order they are written, and none is kept."""
    import weakref

    from smoe_ds.huggingface.tensors import FolderTensors

    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0
    read = FolderTensors.tensor

    def watched(self: FolderTensors, name: str) -> torch.Tensor:
        nonlocal most
        found = read(self, name)
        alive.append(weakref.ref(found))
        most = max(most, sum(one() is not None for one in alive))
        return found

    monkeypatch.setattr(FolderTensors, "tensor", watched)
    assert import_(folder, tmp_path / "out") == 0
    assert len(alive) > 40
    assert most <= 3, "key and value are put together; beside them one may still be written"
