"""Gathers the contents of a report from runs on disk, and computes a bounded part of what they lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from smoe_ds.analysis.pruning import check_vocabulary
from smoe_ds.analysis.routing_analysis import analyse_routing
from smoe_ds.analysis.token_paths import SentencePaths, sentence_paths
from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.load import TrainedModel
from smoe_ds.decode.translator import Translator
from smoe_ds.errors import CheckpointError, DataError
from smoe_ds.evaluate.held_out import choose_directions, corpus_of, read_held_out
from smoe_ds.evaluate.scores import Evaluation
from smoe_ds.planning.plan import make_plan
from smoe_ds.report.routing import routing_tables
from smoe_ds.report.run_report import read
from smoe_ds.report.run_report.contents import Missing, RoutingNumbers, RunContents
from smoe_ds.text_line import command_line

SPLIT = "valid"
"""What is analysed where a run has no analysis."""
Note = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What is asked of every run.

    Attributes:
        checkpoint: ``best``, ``last`` or a step.
        data: the corpus; None: the run's own.
        sentences: to analyse in all directions together, where there is no analysis; 0: none.
        examples: sentences for the token view; 0: none.
        own: (direction, sentence) for the token view in place of them.
    """

    checkpoint: str | int = "best"
    data: Path | None = None
    sentences: int = 400
    examples: int = 4
    own: Sequence[tuple[str, str]] = ()


def gather(model: TrainedModel, name: str, wanted: Wanted, note: Note) -> RunContents:
    """Everything that a report shows of a run.

    Args:
        model: of the run.
        name: of the run in the report.
        wanted: what to look for.
        note: told what takes time.

    Raises:
        SmoeError: a file of the run is damaged, or a sentence of ``wanted.own`` cannot be translated.
    """
    files, environment = model.files, read.read_environment(model.files.environment)
    history = read.read_log(files)
    last_step = max((step for values in history.values() for step in values), default=0)
    scored = read.read_scores(files.scores)
    reader = _Reader(model, wanted, note)
    routing, sentences, scores = reader.routing(), reader.sentences(scored), reader.scores(scored)
    missing = list(reader.missing)
    if not history:
        missing.append(Missing(f"curves: there is no {files.history}"))
    return RunContents(
        name=name,
        path=model.given,
        config=model.config,
        plan=make_plan(model.config, vocab_size=model.tokenizer.vocab_size),
        parameters=model.num_parameters,
        lacks_experts=bool(model.removed_experts),
        weights=reader.weights,
        environment=environment,
        history=history,
        scores=scores,
        routing=routing,
        sentences=sentences,
        repeat=read.repeat_command(model, environment, last_step),
        missing=missing,
    )


class _Reader:
    """Opens weights and corpus of a run where they are needed, and notes what is not at hand."""

    def __init__(self, model: TrainedModel, wanted: Wanted, note: Note) -> None:
        self._model, self._wanted, self._note = model, wanted, note
        self._translator: Translator | None = None
        self.missing: list[Missing] = []
        self._checkpoint: Path | None = None
        for direction, _ in wanted.own:
            model.check_languages(*direction.split("-"))
        try:
            self._checkpoint = model.checkpoint(wanted.checkpoint)
        except CheckpointError as error:
            if wanted.checkpoint != "best":
                raise
            self.missing.append(Missing(f"everything that needs weights: {error}"))

    @property
    def weights(self) -> str:
        """Which weights are looked at, in words."""
        return "" if self._checkpoint is None else f"step {self._model.step(self._checkpoint):,}"

    def _other_step(self, file: Path, step: int) -> str:
        """That a file is of other weights than those looked at, in words; empty where it is of these."""
        if self._checkpoint is None or step == self._model.step(self._checkpoint):
            return ""
        return f" ({file} is of step {step:,}, not of {self.weights})"

    def _command(self, name: str) -> str:
        """The command that makes something of the weights looked at."""
        which = self._wanted.checkpoint
        options = [] if which == "best" else ["--checkpoint", str(which)]
        return command_line(["smoe-ds", name, str(self._model.given), *options])

    def scores(self, found: Evaluation | None) -> Evaluation | None:
        """The scores of the run, if they are of these weights."""
        other = self._other_step(self._model.files.scores, found.checkpoint["step"]) if found else ""
        if found is None or other:
            self.missing.append(Missing(f"scores{other}", self._command("evaluate")))
            return None
        return found

    def routing(self) -> RoutingNumbers | None:
        """The analysis of the run, if it is of these weights, or one of some sentences."""
        shown = "losses by group" if self._model.config.smoe.moe.is_dense else "requested capacity and experts"
        found = read.read_routing(self._model.files.analysis)
        other = self._other_step(self._model.files.analysis, found.step) if found else ""
        if self._checkpoint is None or (found and not other):
            return found
        corpus = self._corpus if self._wanted.sentences else None
        if corpus is None:
            self.missing.append(Missing(f"{shown}{other}", self._command("analyze")))
            return None
        directions = self._directions(corpus)
        limit = max(1, self._wanted.sentences // len(directions))
        self._note(f"{self._model.given}: analyses {limit} sentences of each of {len(directions)} directions")
        analysis = analyse_routing(self._open(), corpus, SPLIT, directions, limit)
        what = f"{shown} of more than {limit} sentences per direction{other}"
        self.missing.append(Missing(what, self._command("analyze")))
        tables = {name: table.as_json() for name, table in routing_tables(analysis).items() if name in read.TABLES}
        return read.routing_numbers(tables, analysis.as_json(), self._model.step(self._checkpoint))

    def sentences(self, scores: Evaluation | None) -> list[SentencePaths]:
        """Sentences of the user, of the evaluation, or of the corpus, with the ways of their tokens."""
        if self._checkpoint is None or not (self._wanted.own or self._wanted.examples):
            return []
        if self._wanted.own:
            return [sentence_paths(self._open(), direction, text) for direction, text in self._wanted.own]
        if self._model.config.smoe.moe.is_dense:
            return []
        chosen = self._of_evaluation(scores) if scores else self._of_corpus()
        return [sentence_paths(self._open(), *one) for one in chosen]

    def _of_evaluation(self, scores: Evaluation) -> Iterator[tuple[str, str, str | None, str]]:
        """The samples of an evaluation; translated anew where these are other weights."""
        assert self._checkpoint is not None
        same = scores.checkpoint["step"] == self._model.step(self._checkpoint)
        for one in scores.samples[: self._wanted.examples]:
            yield one.direction, one.source, one.translation if same else None, one.reference

    def _of_corpus(self) -> Iterator[tuple[str, str, str | None, str]]:
        corpus = self._corpus
        if corpus is None:
            command = ["smoe-ds", "report", str(self._model.given), "--sentence", "SRC-TGT", "TEXT"]
            self.missing.append(Missing("the token view", command_line(command)))
            return
        for direction in self._directions(corpus)[: self._wanted.examples]:
            text = read_held_out(corpus, SPLIT, direction, 1)
            yield direction, text.sources[0], None, text.references[0]

    def _open(self) -> Translator:
        if self._translator is None:
            assert self._checkpoint is not None
            self._translator = self._model.translator(self._checkpoint)
        return self._translator

    @cached_property
    def _corpus(self) -> Corpus | None:
        """The corpus; None where the run's own is not at hand any more."""
        try:
            corpus = corpus_of(self._model, self._wanted.data)
            check_vocabulary(self._model.tokenizer, corpus)
            self._directions(corpus)
            if gone := [
                name for name in self._model.config.smoe.data.directions or () if name not in corpus.directions
            ]:
                self._note(f"goes on without {', '.join(gone)}: {corpus.path} has no such text")
            return corpus
        except DataError as error:
            if self._wanted.data is not None:
                raise
            self._note(f"goes on without a corpus: {error}")
            return None

    def _directions(self, corpus: Corpus) -> tuple[str, ...]:
        """The trained directions that the model still has and the corpus has text of, at least one."""
        chosen = choose_directions(self._model.config.smoe.data.directions, corpus, None, SPLIT).directions
        scored, known = corpus.directions_of(SPLIT), self._model.targets
        found = tuple(name for name in chosen if name in scored and (known is None or name.split("-")[1] in known))
        if not found:
            raise DataError(
                f"{corpus.path}: has no {SPLIT} text of a direction that the model was trained on and still has; name "
                "another corpus with --data"
            )
        return found
