"""The tokenizer that transformers takes by itself cuts text as ours does, also outside of the vocabulary."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from data_prep.vocabulary.normalization import completed, training_options
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.huggingface.exported_tokenizer import exported_tokenizer
from smoe_ds.weights.weights_folder import as_text
from tests.helpers.prepared import sentence, translate

STRANGE = [
    "Smile 🙂, 你好 and ﷽.",
    "  two  spaces \t tab ",
    "e\u0301 \u00e9 \ud55c a\u0323\u0302 c\u0327",
    "the sign \u2581 itself",
    "<0x41> is no byte, <s> aside",
    "",
    "   ",
    "\U0001f469\u200d\U0001f4bb",
]


def vocabulary(folder: Path, model_type: str, rule: str) -> Tokenizer:
    """A vocabulary as data_prep trains it, small."""
    lines = [sentence(number) for number in range(400)]
    lines += [translate(line, language) for language in ("nso", "cat", "rus") for line in lines[:300]]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type=model_type,
        vocab_size=400,
        byte_fallback=True,
        character_coverage=1.0,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        control_symbols=["<2eng>", "<2nso>", "<reserved_0>"],
        minloglevel=2,
        **training_options(rule),
    )
    file = folder / "tokenizer.model"
    file.write_bytes(completed(model.getvalue(), rule))
    return Tokenizer(file)


def written(ours: Tokenizer, folder: Path) -> list[int]:
    """Writes the tokenizer's files, beside what says which model it is of; our id of each of theirs."""
    exported = exported_tokenizer(ours, {})
    folder.mkdir()
    for name, content in exported.files(64).items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else as_text(content).encode())
    return list(exported.order)


def texts() -> list[str]:
    """Sentences, odd texts, and random ones of characters that are there and of some that are not."""
    chance = random.Random(5)
    known = "".join(sentence(number) for number in range(50)) + translate(sentence(1), "rus")
    mixed = ["".join(chance.choices(known + "€ßж你🙂  " * 20, k=chance.randint(1, 40))) for _ in range(300)]
    return [*STRANGE, *mixed, *(sentence(number) for number in range(0, 800, 40))]


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("rule", ["nfc", "nmt_nfkc", "identity"])
def test_the_default_tokenizer_is_ours(tmp_path: Path, model_type: str, rule: str) -> None:
    import transformers

    ours = vocabulary(tmp_path, model_type, rule)
    order = written(ours, tmp_path / "theirs")
    theirs: Any = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs", src_lang="__eng__")
    assert theirs.is_fast
    in_bytes, kinds = 0, ours.vocabulary()
    for text in texts():
        if rule == "identity" and "\u2581" in text:
            continue
        found = theirs(text.replace("<s>", "s"))["input_ids"]
        pieces = ours.encode(text.replace("<s>", "s"))
        assert [order[row] for row in found] == [ours.language_id("eng"), *pieces, ours.eos_id], text
        assert theirs.decode(found, skip_special_tokens=True) == ours.decode(pieces)
        in_bytes += any(kinds[index][1] == "byte" for index in pieces)
    assert in_bytes > 100
