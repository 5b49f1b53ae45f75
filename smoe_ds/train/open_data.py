"""Opens what a run reads: the corpus, the stream of training batches, the fixed batches of validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from smoe_ds.config.language_capacity import FIRST_LANGUAGE_ID
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.run import RunConfig
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.framing import Framing
from smoe_ds.data.stream import TrainStream
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.data.validation_batches import ValidationBatches
from smoe_ds.errors import ConfigError, DataError
from smoe_ds.parallel.agreement import together
from smoe_ds.parallel.env import Env
from smoe_ds.train.validation_translations import ValidationTranslations


def open_corpus(path: Path) -> Corpus:
    """The prepared corpus. A collective.

    What is read of a file is checked when it is first read: a start does not wait for the whole corpus.

    Raises:
        DataError: manifest or tokenizer are missing or damaged; on all ranks if on one.
    """
    with together(DataError, "opening the corpus"):
        corpus = Corpus(path, verify=False)
        _ = corpus.tokenizer  # loaded and compared with the manifest here, where all ranks hear of a problem
    return corpus


def check_language_capacity(model: ModelConfig, tokenizer: Tokenizer) -> None:
    """Refuses a number of languages with parts of their own that is not the vocabulary's.

    Raises:
        ConfigError: says the right number.
    """
    wanted, found = model.language_capacity.languages, len(tokenizer.languages)
    ids = [tokenizer.language_id(language) for language in tokenizer.languages]
    if wanted and (wanted != found or ids != list(range(FIRST_LANGUAGE_ID, FIRST_LANGUAGE_ID + found))):
        raise ConfigError(
            f"smoe.model.language_capacity.languages is {wanted}, but {tokenizer.model_file} has tokens of {found} "
            f"languages; set it to {found}"
        )


def trained_directions(run: RunConfig, corpus: Corpus) -> tuple[str, ...]:
    """The directions that are configured, or all of the corpus."""
    chosen = run.smoe.data.directions
    return corpus.directions_of("train") if chosen is None else tuple(chosen)


def open_stream(run: RunConfig, corpus: Corpus, env: Env) -> TrainStream:
    """This rank's share of the training batches."""
    return TrainStream(
        {direction: corpus.sentences("train", direction) for direction in trained_directions(run, corpus)},
        corpus.tokenizer.language_ids,
        run.smoe.data,
        seed=run.smoe.train.seed,
        max_positions=run.smoe.model.max_positions,
        micro_batches_per_step=run.train_batch_size,
        rank=env.rank,
        world_size=env.world_size,
        fingerprint=corpus.fingerprint,
    )


def open_translations(
    run: RunConfig, corpus: Corpus, batches: Mapping[str, ValidationBatches], env: Env, device: torch.device
) -> ValidationTranslations | None:
    """What validation translates; None where it does not. A collective.

    Raises:
        DataError: it cannot be read; on all ranks if on one.
    """
    smoe = run.smoe
    if not smoe.train.validate_bleu or not batches:
        return None
    with together(DataError, "opening the validation text"):
        return ValidationTranslations(
            batches,
            smoe.train.validate_bleu,
            corpus.tokenizer,
            framing=Framing.of(smoe.data),
            max_positions=smoe.model.max_positions,
            env=env,
            device=device,
        )


def open_validation(run: RunConfig, corpus: Corpus, env: Env) -> dict[str, ValidationBatches]:
    """This rank's fixed batches of every trained direction that has validation sentences. A collective.

    Raises:
        DataError: they cannot be read; on all ranks if on one.
    """
    batches = {}
    with together(DataError, "opening the validation text"):
        for direction in trained_directions(run, corpus):
            if len(sentences := corpus.sentences("valid", direction)):
                batches[direction] = ValidationBatches(
                    sentences,
                    corpus.tokenizer.language_ids,
                    run.smoe.data,
                    max_positions=run.smoe.model.max_positions,
                    rank=env.rank,
                    world_size=env.world_size,
                    max_batches=run.smoe.train.validate_batches,
                )
                batches[direction].check()
    return batches
