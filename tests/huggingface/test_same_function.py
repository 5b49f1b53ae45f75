"""Imported models compute what transformers computes: logits, and what beam search finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from smoe_ds.cli.main import main
from smoe_ds.decode.load import load_translator
from smoe_ds.decode.translator import Translator
from tests.helpers.prepared import sentence
from tests.helpers.transformers_folder import CODES, saved_folder

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("m2m_100", {}),
    "dense, gelu, no scale, deeper decoder": (
        "m2m_100",
        {"activation_function": "gelu", "scale_embedding": False, "decoder_layers": 3},
    ),
    "experts": ("nllb-moe", {}),
    "experts in other layers of each side, all told otherwise": (
        "nllb-moe",
        {
            "encoder_sparse_step": 1,
            "decoder_sparse_step": 2,
            "num_experts": 3,
            "moe_token_dropout": 0.0,
            "batch_prioritized_routing": True,
            "normalize_router_prob_before_dropping": True,
        },
    ),
    "no experts at all": ("nllb-moe", {"encoder_sparse_step": 0, "decoder_sparse_step": 0}),
}
SEARCHED = {"noise": 0.25, "ending": 5.0}
"""What makes outputs differ from source to source, and end."""
LANGUAGES = [("eng", "cat"), ("nso", "eng"), ("zho_Hans", "zho_Hant")]


@dataclass
class Both:
    """One model twice.

    Attributes:
        theirs: of transformers.
        their_tokenizer: likewise.
        ours: the imported one.
        rows: their id of each of our ids.
    """

    theirs: Any
    their_tokenizer: Any
    ours: Translator
    rows: torch.Tensor


@pytest.fixture(scope="module", params=MODELS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Every model, imported by the command."""
    kind, config = MODELS[request.param]
    return imported(tmp_path_factory.mktemp("both"), kind, **config)


def imported(place: Path, kind: str, **config: Any) -> Both:
    import transformers

    folder = saved_folder(place / "theirs", kind, **config)
    assert main(["import", str(folder), "--output", str(place / "ours")]) == 0
    overrides = ["smoe.decode.max_length_factor=3.0", "smoe.decode.no_repeat_ngram=2", "smoe.decode.min_length=4"]
    ours = load_translator(place / "ours", overrides=overrides, device="cpu")
    tokenizer = transformers.NllbTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    return Both(model, tokenizer, ours, their_ids(ours, tokenizer, model.config.vocab_size))


def their_ids(ours: Translator, tokenizer: Any, vocab_size: int) -> torch.Tensor:
    """By the spelling of every token; rows without one come in order."""
    names = dict(zip((f"<2{ours_}>" for ours_ in ("cat", "eng", "nso", "rus", *CODES[4:])), CODES, strict=True))
    found, left = [], []
    for spelling, _ in ours.tokenizer.vocabulary():
        reserved = spelling.startswith("<reserved_")
        found.append(-1 if reserved else tokenizer.convert_tokens_to_ids(names.get(spelling, spelling)))
    left = [row for row in range(vocab_size) if row not in found]
    return torch.tensor([left.pop(0) if row == -1 else row for row in found])


@torch.inference_mode()
@pytest.mark.parametrize(("source", "target"), LANGUAGES)
def test_logits_are_theirs(both: Both, source: str, target: str) -> None:
    lines, answers = [sentence(number) for number in (3, 250, 611)], ["Snow.", sentence(12)[:20], sentence(700)]
    lines[1] = f"{lines[1]} {lines[0]}"
    tokenizer, codes = both.ours.tokenizer, {name.split("_")[0]: name for name in CODES[:4]} | {n: n for n in CODES}
    both.their_tokenizer.src_lang, both.their_tokenizer.tgt_lang = codes[source], codes[target]
    batch = both.their_tokenizer(lines, text_target=answers, return_tensors="pt", padding=True)
    theirs = both.theirs(
        **batch, decoder_attention_mask=torch.cat([torch.ones(3, 1, dtype=torch.long), batch["labels"] != 1], 1)[:, :-1]
    ).logits

    languages = both.ours.languages(source, target)
    ours_batch = both.ours._collate(both.ours.encoded(lines), [tokenizer.encode(text) for text in answers], languages)
    assert both.rows[ours_batch.src].tolist() == batch["input_ids"].tolist()
    assert both.rows[ours_batch.tgt_out].tolist() == batch["labels"].tolist()
    logits, _ = both.ours.model(ours_batch.src, ours_batch.tgt_in)
    real = ours_batch.tgt_out != 0
    assert real.sum() < real.numel(), "no padding: the test shows little"
    expected = theirs[:, :, both.rows][real]
    assert expected.std() > 0.3
    torch.testing.assert_close(logits[real], expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["m2m_100", "nllb-moe"])
def test_beam_search_finds_what_theirs_finds(kind: str, tmp_path: Path) -> None:
    both = imported(tmp_path, kind, **SEARCHED)
    lines, compared, unequal = [sentence(number) for number in range(0, 800, 3)], 0, []
    answers = both.ours.translate(lines, "cat", "eng")
    assert len({answer.tokens for answer in answers}) > 60, "answers hardly depend on the line: the test shows little"
    by_length: dict[int, list[int]] = {}
    for number, answer in enumerate(answers):
        by_length.setdefault(answer.num_source_tokens, []).append(number)
    for length, numbers in by_length.items():
        longest = int(3.0 * length) + 10
        found = generated(both, [lines[i] for i in numbers], longest)
        for i, row, score in zip(numbers, found.sequences.tolist(), found.sequences_scores.tolist(), strict=True):
            if 2 not in row[1:]:
                continue  # cut at the longest length, where ours ends the sentence
            compared += 1
            tokens = row[2 : row.index(2, 1)]
            if both.rows[list(answers[i].tokens)].tolist() != tokens and abs(score - answers[i].score) > 1e-5:
                unequal.append((lines[i], answers[i], tokens, score))
            assert answers[i].score == pytest.approx(score, rel=1e-4)
    assert unequal == []
    assert compared >= 200


def generated(both: Both, lines: list[str], longest: int) -> Any:
    """What ``generate`` finds with the settings of the run."""
    tokenizer = both.their_tokenizer
    tokenizer.src_lang = "eng_Latn"
    never = ["<s>", "<pad>", "<unk>", *CODES]
    return both.theirs.generate(
        **tokenizer(lines, return_tensors="pt", padding=True),
        num_beams=5,
        early_stopping=True,
        length_penalty=1.0,
        min_new_tokens=5,
        max_new_tokens=longest + 1,
        no_repeat_ngram_size=2,
        forced_bos_token_id=tokenizer.convert_tokens_to_ids("cat_Latn"),
        bad_words_ids=[[tokenizer.convert_tokens_to_ids(token)] for token in never],
        return_dict_in_generate=True,
        output_scores=True,
    )
