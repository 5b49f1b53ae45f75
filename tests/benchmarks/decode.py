"""Translation beside other systems of equal sizes: ``python -m tests.benchmarks.decode``.

Weights are random, sizes those of M4, every output has the same number of tokens, and every system searches with the
same beam. Each lives in a process of its own; they translate in turns, so that the machine is as busy for one as for
the next. ``transformers`` and ``ctranslate2`` are compared with where they are installed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from tests.benchmarks.measure import report

OURS = {"dense": [], "vanilla": [8], "4-4": [4, 4], "2-2-2-2": [2, 2, 2, 2]}
NUMBERS = {"": "float32", " int8": "int8", " not packed": ""}
SOURCE_TOKENS, OUTPUT_TOKENS, FIRST_WORD = 25, 40, 10
Translate = Callable[[list[list[int]]], object]
Sizes = argparse.Namespace


def our_network(strata: Sequence[int], numbers: str, sizes: Sizes) -> Any:
    """A model of this package.

    Args:
        strata: of its blocks; none for a dense model.
        numbers: how weights are packed; empty if they are not.
        sizes: widths, layers, vocabulary.
    """
    import torch

    from smoe_ds.config.model import ModelConfig
    from smoe_ds.config.moe import MoeConfig
    from smoe_ds.decode.packed_model import pack_model
    from smoe_ds.model.transformer import Transformer

    torch.manual_seed(0)
    model = ModelConfig(
        d_model=sizes.width,
        d_ffn=4 * sizes.width,
        encoder_layers=sizes.layers,
        decoder_layers=sizes.layers,
        ffn_init="xavier",
    )
    moe = MoeConfig(strata=list(strata), expert_backend="loop", expert_init="xavier")
    network = Transformer(model, moe, sizes.vocabulary).eval()
    if numbers:
        pack_model(network, numbers)
    return network


def our_translate(network: Any, sizes: Sizes) -> Translate:
    """The source's tokens in, beam search over one batch."""
    import torch

    from smoe_ds.config.decode import DecodeConfig
    from smoe_ds.decode.beam_search import beam_search
    from smoe_ds.decode.constraints import SpecialTokens

    config = DecodeConfig(beam_size=sizes.beam, min_length=OUTPUT_TOKENS - 1, max_length_factor=30 / SOURCE_TOKENS)

    def translate(batch: list[list[int]]) -> object:
        src = torch.tensor(batch)
        found = beam_search(network, src, torch.full((len(batch),), 1), SpecialTokens(2, (0, 1, 3)), config, 512)
        assert {len(one[0].tokens) for one in found} == {OUTPUT_TOKENS - 1}
        return found

    return translate


def ours(what: tuple[Sequence[int], str], sizes: Sizes) -> Translate:
    """This package; strata, and how weights are packed if so."""
    return our_translate(our_network(*what, sizes), sizes)


def random_sources(draw: random.Random, size: int, sizes: Sizes) -> list[list[int]]:
    """Sources of random tokens, each with its end."""
    return [[draw.randrange(FIRST_WORD, sizes.vocabulary) for _ in range(SOURCE_TOKENS - 1)] + [2] for _ in range(size)]


def transformers(kind: str, sizes: Sizes) -> Translate:
    """M2M100, or NLLB-MoE with a block in every second layer, by ``generate``."""
    import torch
    from transformers import M2M100ForConditionalGeneration, NllbMoeConfig, NllbMoeForConditionalGeneration

    torch.manual_seed(0)
    network: Any
    if kind == "dense":
        network = M2M100ForConditionalGeneration(_m2m_config(sizes)).eval()
    else:
        moe = {"num_experts": 8, "expert_capacity": 10**6, "encoder_sparse_step": 2, "decoder_sparse_step": 2}
        network = NllbMoeForConditionalGeneration(NllbMoeConfig(**_common(sizes), **moe)).eval()

    def translate(batch: list[list[int]]) -> object:
        with torch.inference_mode():
            found = network.generate(
                torch.tensor(batch),
                attention_mask=torch.ones(len(batch), SOURCE_TOKENS, dtype=torch.int64),
                num_beams=sizes.beam,
                min_new_tokens=OUTPUT_TOKENS,
                max_new_tokens=OUTPUT_TOKENS,
                early_stopping=True,
            )
        assert found.shape[1] == OUTPUT_TOKENS + 1
        return found

    return translate


def _common(sizes: Sizes) -> dict[str, Any]:
    sides = {
        f"{side}_{key}": value
        for side in ("encoder", "decoder")
        for key, value in (("layers", sizes.layers), ("ffn_dim", 4 * sizes.width), ("attention_heads", 8))
    }
    return {"vocab_size": sizes.vocabulary, "d_model": sizes.width, **sides}


def _m2m_config(sizes: Sizes) -> Any:
    from transformers import M2M100Config

    return M2M100Config(**_common(sizes))


def ctranslate2(dtype: str, sizes: Sizes) -> Translate:
    """A random M2M100 by CTranslate2, converted by itself."""
    import ctranslate2 as ct2
    import torch
    from transformers import M2M100ForConditionalGeneration

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        network = M2M100ForConditionalGeneration(_m2m_config(sizes)).eval()
        spec = _spec(network, sizes)
        spec.validate()
        spec.optimize()
        spec.save(folder)
        translator = ct2.Translator(folder, device="cpu", compute_type=dtype, inter_threads=1, intra_threads=1)

    def translate(batch: list[list[int]]) -> object:
        found = translator.translate_batch(
            [[f"t{token}" for token in source] for source in batch],
            beam_size=sizes.beam,
            min_decoding_length=OUTPUT_TOKENS,
            max_decoding_length=OUTPUT_TOKENS,
            max_batch_size=len(batch),
        )
        assert {len(one.hypotheses[0]) for one in found} == {OUTPUT_TOKENS}
        return found

    return translate


def _spec(network: Any, sizes: Sizes) -> Any:
    """The model as CTranslate2's converter describes it, with a made-up vocabulary."""
    from ctranslate2.converters.transformers import _MODEL_LOADERS

    class Tokenizer:
        special_tokens_map: ClassVar[dict[str, Any]] = {}
        bos_token, eos_token, unk_token, pad_token = "<s>", "</s>", "<unk>", "<pad>"

        def convert_ids_to_tokens(self, number: int) -> str:
            return next(token for token, index in self.get_vocab().items() if index == number)

        def get_vocab(self) -> dict[str, int]:
            special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
            return special | {f"t{number}": number for number in range(4, sizes.vocabulary)}

    return _MODEL_LOADERS["M2M100Config"](network, Tokenizer())


def candidates(names: Sequence[str]) -> dict[str, tuple[Callable[..., Translate], Any]]:
    """What to compare, as far as it is installed."""
    import importlib.util

    found: dict[str, tuple[Callable[..., Translate], Any]] = {
        f"{name}{more}": (ours, (strata, numbers)) for more, numbers in NUMBERS.items() for name, strata in OURS.items()
    }
    if importlib.util.find_spec("transformers"):
        found |= {"M2M100 (transformers)": (transformers, "dense"), "NLLB-MoE (transformers)": (transformers, "moe")}
        if importlib.util.find_spec("ctranslate2"):
            found |= {"CTranslate2 float32": (ctranslate2, "float32"), "CTranslate2 int8": (ctranslate2, "int8")}
    return {name: one for name, one in found.items() if not names or name in names}


def _work(pipe: Any, make: Callable[..., Translate], what: Any, sizes: Sizes) -> None:
    """One system: translates batches as they come, and answers with its seconds, by the wall and of the processor."""
    os.environ |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    import torch

    torch.set_num_threads(1)
    translate = make(what, sizes)
    pipe.send("ready")
    for batch in iter(pipe.recv, None):
        began, busy = time.perf_counter(), time.process_time()
        translate(batch)
        pipe.send((time.perf_counter() - began, time.process_time() - busy))


def race(systems: dict[str, tuple[Callable[..., Translate], Any]], size: int, sizes: Sizes) -> dict[str, list[float]]:
    """Seconds of each system for one batch, round by round after one that does not count."""
    context, draw = multiprocessing.get_context("spawn"), random.Random(0)
    pipes, processes = {}, []
    for name, (make, what) in systems.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=_work, args=(theirs, make, what, sizes), daemon=True))
        processes[-1].start()
        theirs.close()  # so that the death of the process is seen
        assert pipes[name].recv() == "ready"
    times: dict[str, list[float]] = {name: [] for name in systems}
    for round_number in range(sizes.repeats + 1):
        batch = random_sources(draw, size, sizes)
        for name, pipe in pipes.items():
            pipe.send(batch)
            took = pipe.recv()[sizes.clock == "cpu"]
            if round_number:
                times[name].append(took)
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join()
    return times


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Options for what is measured, and how."""
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], help="sentences at once")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: processor time")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--beam", type=int, default=5)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a table for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_sizes(parser)
    parser.add_argument("--systems", nargs="+", default=[], help="names of the table's first column (default: all)")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args(argv)
    rows = []
    for size in args.batches:
        times = race(candidates(args.systems), size, args)
        for name, seconds in times.items():
            middle = statistics.median(seconds)
            row = {"system": name, "batch": size, "ms": middle * 1e3, "tokens_s": size * OUTPUT_TOKENS / middle}
            for other in ("dense", "M2M100 (transformers)", "CTranslate2 float32"):
                if other in times:
                    speed = statistics.median(b / a for a, b in zip(seconds, times[other], strict=True))
                    row[f"speed over {other}"] = round(speed, 3)
            rows.append(row)
    report(f"beam {args.beam}, {OUTPUT_TOKENS} tokens out, {args.clock} time, one thread each", rows, args.json)


if __name__ == "__main__":
    main()
