"""The loaders that the benchmark compares, each doing the same job in the way that is natural to it.

The job: directions mixed by temperature, sentences in random order, batches of at most so many tokens with padding
counted, padded int64 tensors of source, decoder input and target with their special tokens. A step is one batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smoe_ds.config.data import DataConfig
from smoe_ds.data.framing import BOS_ID, EOS_ID
from smoe_ds.data.mixture import WHOLE, draw_counts, mixture_shares
from smoe_ds.data.packing import pack
from smoe_ds.data.stream import TrainStream
from tests.benchmarks.data_corpus import Pairs

TEMPERATURE = 5.0
MAX_TOKENS = 8192
SEED = 1
POOL = 8192
"""Samples that are pooled, sorted by length and cut into batches, where samples come one by one."""


Row = tuple[Any, Any, int]
"""Ids of source and target, token of the target's language."""


@dataclass(frozen=True)
class Counted:
    """A batch, and what it holds: real tokens of source and target, tokens with padding."""

    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    tokens: int
    padded: int


class Stream:
    """This project's."""

    resumes = True

    def __init__(self, pairs: Pairs, work: Path) -> None:
        self._pairs = pairs
        self._position: dict[str, Any] | None = None

    def prepare(self, step: int) -> None:
        """Finds the position after that many steps: windows are counted, their draws added up."""
        if not step:
            return
        stream = self._open()
        start = stream.position()
        stream.next_step()
        assert stream._window is not None
        window, offset = divmod(step, len(stream._window[1].packing))
        sizes = [len(self._pairs.sentences()[name]) for name in start["drawn"]]
        size, shares = start["belongs_to"]["window"], mixture_shares(sizes, TEMPERATURE)
        drawn = np.zeros(len(sizes), np.int64)
        for number in range(window):
            drawn += draw_counts(shares, size, seed=SEED, window=number)
        counts = dict(zip(start["drawn"], drawn.tolist(), strict=True))
        place = {
            "window": window,
            "offset": offset * 9 // 10,
            "micro_batch": step,
            "steps": step,
        }  # no window is so short
        self._position = start | place | {"drawn": counts}

    def batches(self, step: int) -> Iterator[Counted]:
        """Batches from a step on."""
        stream = self._open()
        if self._position is not None:
            stream.restore(self._position)
        while True:
            (batch,) = stream.next_step().batches
            tokens, padded = batch.num_src_tokens + batch.num_tgt_tokens, batch.src.numel() + batch.tgt_out.numel()
            yield Counted((batch.src, batch.tgt_in, batch.tgt_out), tokens, padded)

    def _open(self) -> TrainStream:
        """A stream that has read nothing."""
        return TrainStream(
            self._pairs.sentences(),
            self._pairs.language_ids(),
            DataConfig(path="unused", temperature=TEMPERATURE, max_tokens=MAX_TOKENS),
            seed=SEED,
            max_positions=512,
            micro_batches_per_step=1,
            rank=0,
            world_size=1,
            fingerprint="benchmark",
            prefetch=0,
        )


class TorchData:
    """torchdata's StatefulDataLoader over memory-mapped arrays; a batch sampler draws, packs and gives numbers."""

    resumes = True

    def __init__(self, pairs: Pairs, work: Path) -> None:
        self._dataset = _MappedPairs(pairs)
        self._pairs = pairs

    def batches(self, step: int) -> Iterator[Counted]:
        """Batches from a step on; the loader's own way back is to draw again up to there."""
        loader = self._open()
        if step:
            first = self._open()
            next(iter(first))
            loader.load_state_dict(first.state_dict() | {"_num_yielded": step, "_sampler_iter_yielded": step})
        yield from loader

    def _open(self) -> Any:
        from torchdata.stateful_dataloader import StatefulDataLoader

        return StatefulDataLoader(self._dataset, batch_sampler=_PackedBatches(self._pairs), collate_fn=_collate)


class _MappedPairs(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """All sentence pairs of all directions, numbered on from one to the next."""

    def __init__(self, pairs: Pairs) -> None:
        self._sides: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]] = []
        sizes = []
        dtype = "<u2" if pairs.vocab_size <= 65536 else "<u4"
        for name in pairs.sentences():
            src, tgt = name.split("-")
            pair = name if name in pairs.entries else f"{tgt}-{src}"
            (shard,) = pairs.entries[pair]["shards"]  # more than a million pairs are not measured
            maps = [
                np.memmap(pairs.folders[pair] / shard["sides"][side][kind]["file"], kind_type, "r")
                for side in (src, tgt)
                for kind, kind_type in (("bin", dtype), ("idx", "<u8"))
            ]
            self._sides.append((maps[0], maps[1], maps[2], maps[3], pairs.language_ids()[tgt]))
            sizes.append(shard["sentences"])
        self._starts = np.cumsum([0, *sizes])

    def __getitem__(self, number: int) -> Row:
        direction = int(np.searchsorted(self._starts, number, "right")) - 1
        src, src_offsets, tgt, tgt_offsets, language = self._sides[direction]
        row = number - int(self._starts[direction])
        return (
            src[int(src_offsets[row]) : int(src_offsets[row + 1])],
            tgt[int(tgt_offsets[row]) : int(tgt_offsets[row + 1])],
            language,
        )


class _PackedBatches:
    """Numbers of sentences, drawn with replacement by temperature, sorted and cut by this project's packing."""

    def __init__(self, pairs: Pairs) -> None:
        directions = list(pairs.sentences().values())
        self._sizes = np.array([len(sentences) for sentences in directions])
        self._starts = np.cumsum([0, *self._sizes])
        self._src = np.concatenate([sentences.src_lengths[:] for sentences in directions]).astype(np.int64)
        self._tgt = np.concatenate([sentences.tgt_lengths[:] for sentences in directions]).astype(np.int64)

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng(SEED)
        shares = _shares(self._sizes.tolist())
        for window in itertools.count():
            direction = generator.choice(len(shares), 98_304, p=shares)
            numbers = self._starts[direction] + generator.integers(0, self._sizes[direction])
            packing = pack(self._src[numbers] + 2, self._tgt[numbers] + 1, MAX_TOKENS, SEED, window)
            for batch in range(len(packing)):
                yield numbers[packing[batch]].tolist()


class Streaming:
    """MosaicML Streaming: a stream per direction, mixed by its proportion; samples pooled and cut into batches."""

    resumes = True

    def __init__(self, pairs: Pairs, work: Path) -> None:
        from streaming import MDSWriter

        self._folder = work / "mds"
        ids = pairs.language_ids()
        self._sizes = {name: len(sentences) for name, sentences in pairs.sentences().items()}
        if (self._folder / "done").is_file():
            return
        for name, sentences in pairs.sentences().items():
            columns = {"src": "ndarray:uint16", "tgt": "ndarray:uint16", "language": "int"}
            language = ids[sentences.tgt_language]
            with MDSWriter(out=str(self._folder / name), columns=columns) as writer:
                for number in range(len(sentences)):
                    src, tgt = sentences[number]
                    writer.write({"src": src.astype(np.uint16), "tgt": tgt.astype(np.uint16), "language": language})
        (self._folder / "done").touch()

    def batches(self, step: int) -> Iterator[Counted]:
        """Batches from a step on, by the number of samples of an average batch."""
        import streaming
        from streaming import Stream as Source
        from streaming import StreamingDataset

        streaming.base.util.clean_stale_shared_memory()
        shares = _shares(list(self._sizes.values()))
        sources = [
            Source(local=str(self._folder / name), proportion=share)
            for name, share in zip(self._sizes, shares, strict=True)
        ]
        dataset = StreamingDataset(streams=sources, shuffle=True, shuffle_seed=SEED, batch_size=1)
        if step:
            size = dataset.epoch_size
            samples = step * 165
            dataset.load_state_dict(dataset.state_dict(samples % size, True) | {"epoch": samples // size})
        yield from _pooled((s["src"], s["tgt"], s["language"]) for _ in itertools.count() for s in dataset)


class HuggingFace:
    """Hugging Face ``datasets``: Arrow files in torch's DataLoader, with the same batch sampler as torchdata's.

    As Python lists, a batch at a time, which was the fastest of its formats; its iterable datasets, shuffled and
    interleaved, gave less than a hundredth of that.
    """

    resumes = False  # torch's DataLoader keeps no state

    def __init__(self, pairs: Pairs, work: Path) -> None:
        import datasets

        datasets.disable_progress_bars()
        self._folder = work / "arrow"
        ids = pairs.language_ids()
        self._pairs = pairs
        if (self._folder / "done").is_file():
            return
        ids_type = datasets.Sequence(datasets.Value("uint16"))
        features = datasets.Features({"src": ids_type, "tgt": ids_type, "language": datasets.Value("int64")})
        for name, sentences in pairs.sentences().items():
            rows = [sentences[number] for number in range(len(sentences))]
            languages = [ids[sentences.tgt_language]] * len(rows)
            columns = {"src": [src for src, _ in rows], "tgt": [tgt for _, tgt in rows], "language": languages}
            datasets.Dataset.from_dict(columns, features).save_to_disk(str(self._folder / name))
        (self._folder / "done").touch()

    def batches(self, step: int) -> Iterator[Counted]:
        """Batches from the start; there is no way back to a later step."""
        import datasets

        assert not step
        folders = [str(self._folder / name) for name in self._pairs.sentences()]
        dataset = datasets.concatenate_datasets([datasets.load_from_disk(folder) for folder in folders])
        sampler = _PackedBatches(self._pairs)
        yield from torch.utils.data.DataLoader(
            dataset, batch_sampler=sampler, collate_fn=lambda rows: _collate([tuple(row.values()) for row in rows])
        )


LOADERS = {"stream": Stream, "torchdata": TorchData, "streaming": Streaming, "datasets": HuggingFace}


def _shares(sizes: list[int]) -> list[float]:
    shares = [share / WHOLE for share in mixture_shares(sizes, TEMPERATURE)]
    return [share / sum(shares) for share in shares]


def _pooled(samples: Iterable[Row]) -> Iterator[Counted]:
    """Batches of samples that come one by one: a pool is sorted by length and cut by this project's packing."""
    pool: list[Row] = []
    for number, sample in enumerate(samples, 1):
        pool.append(sample)
        if len(pool) == POOL:
            src, tgt = (np.array([len(sample[side]) for sample in pool]) for side in (0, 1))
            packing = pack(src + 2, tgt + 1, MAX_TOKENS, SEED, number)
            for batch in range(len(packing)):
                yield _collate([pool[place] for place in packing[batch].tolist()])
            pool = []


def _collate(rows: list[Row]) -> Counted:
    """Padded tensors, a row at a time."""
    src_lengths, tgt_lengths = [len(src) for src, _, _ in rows], [len(tgt) for _, tgt, _ in rows]
    src = np.zeros((len(rows), max(src_lengths) + 2), np.int64)
    tgt_in, tgt_out = (np.zeros((len(rows), max(tgt_lengths) + 1), np.int64) for _ in range(2))
    tgt_in[:, 0] = BOS_ID
    for place, (src_ids, tgt_ids, language) in enumerate(rows):
        src[place, 0] = language
        src[place, 1 : len(src_ids) + 1] = src_ids
        src[place, len(src_ids) + 1] = EOS_ID
        tgt_in[place, 1 : len(tgt_ids) + 1] = tgt_ids
        tgt_out[place, : len(tgt_ids)] = tgt_ids
        tgt_out[place, len(tgt_ids)] = EOS_ID
    tokens = sum(src_lengths) + sum(tgt_lengths) + 3 * len(rows)
    tensors = (torch.from_numpy(src), torch.from_numpy(tgt_in), torch.from_numpy(tgt_out))
    return Counted(tensors, tokens, src.size + tgt_out.size)
