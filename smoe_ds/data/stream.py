"""The training stream: micro-batches of all directions, in an order that depends on seed, corpus and settings alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from smoe_ds.data.batch import Batch
from smoe_ds.data.framing import Framing
from smoe_ds.data.mixture import mixture_shares
from smoe_ds.data.partition import check_partition, micro_batches_of_rank
from smoe_ds.data.position import Position
from smoe_ds.data.sentences import SentencePairs
from smoe_ds.data.window import Directions, OrderSettings, Reading, Window, check_directions
from smoe_ds.data.window_size import usual_window
from smoe_ds.errors import DataError

if TYPE_CHECKING:
    from smoe_ds.config.data import DataConfig


# Micro-batches are read together, up to this many tokens: more cost memory, fewer cost time. The first read is one
# step, for an early first batch; then they double.
_TOKENS_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class StepBatches:
    """One rank's share of an optimizer step, and the size of the whole step.

    Attributes:
        batches: this rank's micro-batches, in order.
        num_src_tokens: source tokens in the micro-batches of ALL ranks, special tokens included, padding not.
        num_tgt_tokens: target tokens, likewise; the loss is a mean over them.
        epochs: direction -> epochs read after this step, e.g. 1.5.
        skipped: direction -> sentences left out as too long so far; directions without any are not listed.
    """

    batches: list[Batch]
    num_src_tokens: int
    num_tgt_tokens: int
    epochs: dict[str, float]
    skipped: dict[str, int]


class TrainStream:
    """Endless stream of optimizer steps over both mixture and epochs, which can go on from any saved position.

    The global sequence of micro-batches is a function of seed, corpus, directions, temperature, max_tokens, window,
    max_positions and the special tokens around sentences; :meth:`restore` refuses a position for which one of them
    differs. It is none of rank, world size and micro-batches per step: these may change between two runs, and the
    sequence goes on with the micro-batch after the last one that was read.

    A sentence pair with one side longer than ``max_positions``, special tokens included, or with both sides together
    above ``max_tokens``, is skipped and counted. Every direction passes all of its sentences once per epoch.

    Args:
        sentences: direction -> its sentence pairs; ``config.directions`` selects among them.
        language_ids: language -> id of its token.
        config: section ``smoe.data``.
        seed: seed of the order.
        max_positions: longest source or target [tokens].
        micro_batches_per_step: micro-batches K of one optimizer step over all ranks.
        rank: this process.
        world_size: processes W among which the K micro-batches are dealt; divides K.
        fingerprint: SHA-256 of the corpus, without which a position means nothing.
        prefetch: steps that a background thread builds ahead while the caller works on the last one; 0: no thread;
            None: as the configuration says.

    Raises:
        ConfigError: K is no multiple of W.
        DataError: an unknown direction, one without sentences, or one whose language has no token.
    """

    def __init__(
        self,
        sentences: Mapping[str, SentencePairs],
        language_ids: Mapping[str, int],
        config: DataConfig,
        *,
        seed: int,
        max_positions: int,
        micro_batches_per_step: int,
        rank: int,
        world_size: int,
        fingerprint: str,
        prefetch: int | None = None,
    ) -> None:
        check_partition(micro_batches_per_step, rank, world_size)
        self._micro_batches_per_step = micro_batches_per_step
        self._rank, self._world_size = rank, world_size
        selected = _selected(sentences, config)
        settings = order_settings(config, selected, seed=seed, max_positions=max_positions)
        self._directions = Directions(selected, language_ids, settings)
        self._belongs_to = {"fingerprint": fingerprint, **settings.belongs_to()}
        self._position = Position.start(len(self._directions.names))
        self._window: tuple[int, Window] | None = None
        self._checked_usable = False
        self._reading: tuple[range, Reading] | None = None
        self._at_a_time = micro_batches_per_step // world_size
        self._prefetch = config.prefetch_steps if prefetch is None else prefetch
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="train-stream") if self._prefetch else None
        self._ahead: deque[Future[tuple[StepBatches, Position]]] = deque()
        self._frontier = self._position

    def next_step(self) -> StepBatches:
        """The next step's micro-batches for this rank.

        Raises:
            DataError: all sentences of all directions are too long, or the corpus is damaged.
        """
        self.wait()
        step, self._position = self._ahead.popleft().result()
        while len(self._ahead) < self._prefetch:
            self._submit()
        return step

    def wait(self) -> None:
        """Waits until the next step is ready; raises what :meth:`next_step` would raise. The position stays."""
        if not self._ahead:
            self._submit()
        error = self._ahead[0].exception()
        if error is not None:
            self._drop_ahead()
            raise error

    def position(self) -> dict[str, Any]:
        """Where the stream stands after the last step that :meth:`next_step` gave, whatever was built ahead."""
        return self._position.to_json(self._belongs_to, self._directions.names)

    def restore(self, position: Mapping[str, Any]) -> None:
        """Goes on from a position that any rank of any world size saved; costs one window's draw.

        Raises:
            DataError: the position belongs to another order, or is damaged; the stream stays where it was.
        """
        new = Position.from_json(position, self._belongs_to, self._directions.names)
        drawn = int(sum(new.drawn.tolist()))
        if drawn != new.window * self._directions.settings.window:
            raise DataError(
                f"data position: window {new.window} follows {new.window * self._directions.settings.window} drawn "
                f"sentences, but the counts per direction sum to {drawn}; resume from another checkpoint"
            )
        self._drop_ahead()
        num_batches = len(self._window_at(new).packing)
        if new.offset > num_batches:
            raise DataError(
                f"data position: offset {new.offset} lies past the {num_batches} micro-batches of window {new.window}; "
                "resume from another checkpoint"
            )
        self._position = self._frontier = new

    def close(self) -> None:
        """Ends the background thread; safe to call twice. The position stays readable."""
        self._drop_ahead()
        if self._executor is not None:
            self._executor.shutdown(wait=True)

    def __enter__(self) -> TrainStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _drop_ahead(self) -> None:
        """Forgets what was built ahead, and waits for the thread to be idle."""
        wait([future for future in self._ahead if not future.cancel()])
        self._ahead.clear()
        self._reading = None
        self._at_a_time = self._micro_batches_per_step // self._world_size
        self._frontier = self._position

    def _submit(self) -> None:
        """Has one more step built, in the background thread if there is one."""
        if self._executor is not None:
            self._ahead.append(self._executor.submit(self._build_ahead))
            return
        done: Future[tuple[StepBatches, Position]] = Future()
        try:
            done.set_result(self._build_ahead())
        except BaseException as error:  # handed on, as the thread does
            done.set_exception(error)
        self._ahead.append(done)

    def _build_ahead(self) -> tuple[StepBatches, Position]:
        """The step after the last one that was built; steps are built one at a time, in their order."""
        step, self._frontier = self._build(self._frontier)
        return step, self._frontier

    def _build(self, position: Position) -> tuple[StepBatches, Position]:
        """One step from ``position`` on, and the position after it. Runs in one thread at a time."""
        left = self._micro_batches_per_step
        own = micro_batches_of_rank(position.micro_batch, left, self._rank, self._world_size)
        batches, num_src_tokens, num_tgt_tokens = [], 0, 0
        while left:
            position = self._enter_window(position)
            window, offset = self._window_at(position), position.offset
            here = range(offset, min(offset + left, len(window.packing)))
            num_src_tokens += int(window.num_src_tokens[here.start : here.stop].sum())
            num_tgt_tokens += int(window.num_tgt_tokens[here.start : here.stop].sum())
            places = [(index, offset + index - position.micro_batch) for index in own]
            batches += [self._batch(window, place, index) for index, place in places if place in here]
            left -= len(here)
            position = replace(position, offset=here.stop, micro_batch=position.micro_batch + len(here))
        position = replace(position, steps=position.steps + 1)
        epochs, skipped = self._epochs(position), self._skipped(position)
        return StepBatches(batches, num_src_tokens, num_tgt_tokens, epochs, skipped), position

    def _batch(self, window: Window, offset: int, index: int) -> Batch:
        """The micro-batch at ``offset`` of the window; reads this rank's next ones with it."""
        if self._reading is None or index not in self._reading[0]:
            numbers = range(offset, len(window.packing), self._world_size)
            parts = -(-len(numbers) // self._at_a_time)
            numbers = numbers[: -(-len(numbers) // parts)]  # of a window that takes several readings equal parts
            most = max(1, _TOKENS_AT_A_TIME // self._directions.settings.max_tokens)
            self._at_a_time = min(2 * self._at_a_time, most)
            indices = range(index, index + len(numbers) * self._world_size, self._world_size)
            self._reading = None  # not two at a time
            self._reading = (indices, self._directions.read(window, numbers))
        indices, reading = self._reading
        return self._directions.batch(reading, indices.index(index), index=index)

    def _window_at(self, position: Position) -> Window:
        if self._window is None or self._window[0] != position.window:
            self._window = self._reading = None  # not two at a time, and no reading of the last one
            self._window = (position.window, self._directions.draw(position.window, position.drawn))
        return self._window[1]

    def _enter_window(self, position: Position) -> Position:
        """The same place in the sequence, in a window that has a micro-batch left."""
        while position.offset >= len((window := self._window_at(position)).packing):
            if not len(window.packing) and not self._checked_usable:
                self._directions.require_usable()
                self._checked_usable = True
            position = replace(
                position,
                window=position.window + 1,
                offset=0,
                drawn=position.drawn + window.drawn,
                skipped=position.skipped + window.skipped,
            )
        return position

    def _epochs(self, position: Position) -> dict[str, float]:
        window = self._window_at(position)
        read = position.drawn + window.drawn * (position.offset / len(window.packing))
        return dict(zip(self._directions.names, (read / self._directions.sizes).tolist(), strict=True))

    def _skipped(self, position: Position) -> dict[str, int]:
        skipped = position.skipped + self._window_at(position).skipped
        return {self._directions.names[d]: int(skipped[d]) for d in np.flatnonzero(skipped).tolist()}


def order_settings(
    config: DataConfig, sentences: Mapping[str, SentencePairs], *, seed: int, max_positions: int
) -> OrderSettings:
    """What the order of sentences depends on, from the run's configuration and the directions it reads.

    Raises:
        DataError: no direction, or one without sentences.
    """
    check_directions(sentences)
    window = config.window
    if window is None:
        sizes = [len(pairs) for pairs in sentences.values()]
        window = usual_window(config.max_tokens, sizes, mixture_shares(sizes, config.temperature))
    return OrderSettings(
        seed=seed,
        temperature=float(config.temperature),
        max_tokens=config.max_tokens,
        window=window,
        max_positions=max_positions,
        framing=Framing.of(config),
    )


def _selected(sentences: Mapping[str, SentencePairs], config: DataConfig) -> dict[str, SentencePairs]:
    """The sentence pairs of the directions that ``config`` selects."""
    names = list(sentences) if config.directions is None else config.directions
    unknown = sorted(set(names) - set(sentences))
    if unknown:
        raise DataError(
            f"smoe.data.directions: {', '.join(unknown)} not in the prepared corpus, or there without training text; "
            f"it has that of {', '.join(sorted(sentences))}; correct the list or prepare the corpus with these pairs"
        )
    return {name: sentences[name] for name in names}
