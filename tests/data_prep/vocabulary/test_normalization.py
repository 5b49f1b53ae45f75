"""What a vocabulary's rule changes in text: nothing a reader sees by default, what SentencePiece says by its rules."""

from __future__ import annotations

import io
import unicodedata
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.spec.sections import SentencePieceSpec
from data_prep.vocabulary.normalization import NFC, completed, nfc_rule, training_options
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.evaluate.metrics import Metrics
from tests.helpers.prepared import prepare_spec, sentence, small_spec, write_lines

RULES = get_args(SentencePieceSpec.model_fields["normalization"].annotation)

SENTENCES = {
    "Persian, zero-width non-joiners": "می‌خواهم خانه‌های بزرگ را ببینم؟",
    "Telugu, zero-width non-joiners": "ఫైల్‌ను తెరవలేకపోయింది",
    "Kannada": "ಕಡತ‌ವನ್ನು ತೆರೆಯಿರಿ",
    "Sinhala, zero-width joiners": "ශ්‍රී ලංකාව",
    "Malayalam, zero-width joiners": "അവന്‍ പോയി, അവൻ വന്നു",
    "Bengali, composed two ways": "বাড়ি বাড\u09bcি যাচ্ছেন কো",
    "Tamil, a vowel in two parts": "மொழி மெ\u0bbeழி",
    "Hindi": "क़लम क\u093cलम, ज़रूर।",
    "Chinese, full-width punctuation": "他说：“你好，世界！”（真的？）；《书》【甲】１２３ＡＢＣ",
    "Japanese": "ﾊﾝｶｸ カナ、か\u3099 ㌔ ㈱ 〜～ 神\ufa19",
    "Korean, syllables and letters": "한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8 ㄱㅏ ﾡ",
    "Thai": "น้ำ ก\u0e48\u0e38 ที่นี่",
    "Lao": "ນ້ຳ ກ\u0ec8\u0eb8",
    "Khmer, zero-width spaces": "ខ្ញុំ\u200bទៅ\u200bផ្ទះ",
    "Burmese": "မြန်မာ\u200bစာ",
    "Arabic, presentation forms and tatweel": "ﷺ ﻻ ﺍﻟ العـــربية مُدَرِّس مدر\u0651\u0650س",
    "Hebrew, points and direction marks": "\u200fשָׁלוֹם ב\u05bc\u05b0 (abc)\u200e",
    "Vietnamese": "Tiếng Vie\u0323\u0302t, Vi\u1ec7t, ti\u00ea\u0301ng",
    "Yoruba, marks in any order": "\u1eb9\u0301 e\u0323\u0301 e\u0301\u0323 \u00e9\u0323 \u0254\u0301\u0323",
    "French, no-break spaces": "Bonjour\u00a0! «\u202fOui\u202f» 10\u2009%",
    "German, soft hyphens": "Donau\u00addampf\u00adschiff",
    "Greek": "ᾳ α\u0345 Ω\u2126 ΐ ι\u0308\u0301 μ\u00b5 \u037e",
    "superscripts, fractions, ligatures": "10³ m² ½ ¾ Ⅷ ⅷ ﬁne ﬄ ℃ Å\u212b \u212a ™ № …",
    "emoji": "👨‍👩‍👧 ❤️ ❤︎ 🏳️‍🌈 👍🏽 🇨🇭",
    "blocks, also the sign of SentencePiece": "▁▂▃▄▅▆▇█ a▁b ▁",
    "names of tokens": "<pad> <s> </s> <unk> <2eng> <2fas> <reserved_0> <0x41> __eng__ ⁇",
    "spaces of all kinds": "  two  spaces\ttab\u3000wide \r\n line\u2028end\u0085 ",
    "control characters": "a\u0007b \u000bc\u001fd\ufeffe\ufdd0f\ufffe",
    "musical and old scripts": "𐌰𐌱 𝔄𝟙 𐐀 𓀀",
}


@cache
def tokenizer_of(rule: str, folder: Path) -> Tokenizer:
    """A small model with a rule, saved in the folder."""
    model = io.BytesIO()
    text = [*map(sentence, range(200)), *SENTENCES.values()] * 2
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_writer=model, vocab_size=700, hard_vocab_limit=False, byte_fallback=True,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, control_symbols=["<2eng>", "<2fas>", "<reserved_0>"],
        minloglevel=2, **training_options(rule),
    )  # fmt: skip
    path = folder / f"{rule}.model"
    path.write_bytes(completed(model.getvalue(), rule))
    return Tokenizer(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("normalization")


@pytest.fixture(scope="module")
def nfc(folder: Path) -> Tokenizer:
    return tokenizer_of(NFC, folder)


def back(tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    return tokenizer.decode_rows(tokenizer.encode_rows(texts))


def tidied(text: str) -> str:
    """What the default rule leaves of a text, by Unicode's own data, a character at a time."""
    parts = [""]
    for character in text:
        code = ord(character)
        nothing = unicodedata.category(character) == "Cc" and not character.isspace()
        if nothing or code == 0xFEFF or 0xFDD0 <= code < 0xFDF0 or code & 0xFFFE == 0xFFFE:
            continue
        own_shape = "COMPATIBILITY IDEOGRAPH" in unicodedata.name(character, "") or character in "\u2329\u232a"
        parts += [character, ""] if own_shape else []
        parts[-1] += "" if own_shape else " " if character.isspace() else character
    composed = (part if number % 2 else unicodedata.normalize("NFC", part) for number, part in enumerate(parts))
    return " ".join("".join(composed).split())


@pytest.mark.parametrize("name", SENTENCES)
@pytest.mark.parametrize("form", ["NFC", "NFD", None])
def test_nothing_that_a_reader_sees_changes(nfc: Tokenizer, name: str, form: Literal["NFC", "NFD"] | None) -> None:
    text = (
        SENTENCES[name] if form is None or "\ufa19" in SENTENCES[name] else unicodedata.normalize(form, SENTENCES[name])
    )  # type: ignore[arg-type]
    assert back(nfc, [text]) == [nfc.decode(nfc.encode(text))] == [tidied(text)]


def test_every_character_comes_back(nfc: Tokenizer) -> None:
    codes = [code for code in range(0x20, 0x30000) if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")]
    texts = [f"({chr(code)})" for code in codes if code < 0x3400 or code % 5 == 0]
    texts = [text for text in texts if text[1] < "\U00010000" or unicodedata.is_normalized("NFC", text)]
    expected = [tidied(text) for text in texts]
    assert back(nfc, texts) == expected
    assert len(texts) > 30_000 and sum(map(str.__ne__, texts, expected)) < 200


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.one_of(st.sampled_from("".join(SENTENCES.values())), st.characters(codec="utf-8")), max_size=9))
def test_any_text_comes_back_in_an_equivalent_spelling(nfc: Tokenizer, text: str) -> None:
    text = text.replace("\0", "")  # which the table of a rule cannot hold
    found, expected = nfc.decode(nfc.encode(text)), tidied(text)
    assert unicodedata.normalize("NFD", found) == unicodedata.normalize("NFD", expected), ascii(text)
    assert nfc.decode(nfc.encode(found)) == found or not unicodedata.is_normalized("NFC", found)


def test_equivalent_spellings_have_the_same_ids(nfc: Tokenizer) -> None:
    composed = [chr(code) for code in (*range(0xC0, 0x250), *range(0x370, 0x530), *range(0x1E00, 0x2000),
                                       *range(0xAC00, 0xD7A4, 97))]  # fmt: skip
    apart = [unicodedata.normalize("NFD", character) for character in composed]
    assert back(nfc, apart) == [unicodedata.normalize("NFC", text).strip() for text in apart]
    assert nfc.encode_batch(apart) == nfc.encode_batch(unicodedata.normalize("NFC", text) for text in composed)


def test_the_rule_is_sound() -> None:
    """Every replacement is canonically equivalent, or white space, or removed, or the one sign that comes back."""
    for before, after in nfc_rule().items():
        equivalent = unicodedata.normalize("NFD", before) == unicodedata.normalize("NFD", after)
        assert equivalent or tidied(before) == after.strip() == "" or (before, after) == ("▁", "\ufdd0"), ascii(before)
        assert before != after


@pytest.mark.parametrize("rule", RULES)
def test_rules_are_those_of_their_name(folder: Path, rule: str) -> None:
    tokenizer = tokenizer_of(rule, folder)
    assert tokenizer.normalization == rule
    if rule != NFC:
        normalizer = sentencepiece.SentencePieceNormalizer(rule_name=rule)
        expected = [" ".join(normalizer.Normalize(text).replace("▁", " ").split(" ")).strip(" ")
                    for text in SENTENCES.values()]  # fmt: skip
        assert [" ".join(text.split(" ")) for text in back(tokenizer, list(SENTENCES.values()))] == expected
    changes = tokenizer.decode(tokenizer.encode("10³ می‌خواهم A"))
    assert changes == {"nmt_nfkc": "103 می خواهم A", "nfkc": "103 می‌خواهم A", "nmt_nfkc_cf": "103 می خواهم a",
                       "nfkc_cf": "103 می‌خواهم a"}.get(rule, "10³ می‌خواهم A")  # fmt: skip


def test_a_model_is_the_same_wherever_it_is_made(nfc: Tokenizer, folder: Path, tmp_path: Path) -> None:
    again = tokenizer_of.__wrapped__(NFC, tmp_path)
    assert again.sha256 == nfc.sha256 and str(folder).encode() not in nfc.model_file.read_bytes()


TEXTS = {
    "fas": ["می‌خواهم", "خانه‌های", "بزرگ", "کتاب‌ها", "نمی‌دانم", "درخت"],
    "zho": ["你好，", "世界！", "（真的）", "为什么？", "他说：", "房子；"],
    "ben": ["বাড\u09bcি", "বাড়ি", "যাচ্ছেন", "কো", "কে\u09be", "আমার"],
    "fra": ["m²", "où\u00a0?", "½", "«\u202foui\u202f»", "œuf", "ﬁn"],
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_reference_once_through_the_vocabulary_scores_100(tmp_path: Path, language: str) -> None:
    words, size = TEXTS[language], 150
    spec = small_spec(tmp_path, languages=("nso",), size=size)
    lines = [" ".join(words[number // 6**place % 6] for place in range(5)) for number in range(size)]
    spec["pairs"] = [{"pair": f"eng-{language}", "train": [{
        "src": write_lines(tmp_path / "a", [sentence(number) for number in range(size)]),
        "tgt": write_lines(tmp_path / "b", lines),
    }]}]  # fmt: skip
    spec["clean"] = {"near_duplicates": "keep", "max_ratio": None, "wrong_script": "keep"}
    for rule in (NFC, "nmt_nfkc"):
        spec["sentencepiece"]["normalization"] = rule
        corpus = prepare_spec(tmp_path, spec | {"output": rule})
        references = corpus.text_files("test", f"eng-{language}")[1].read_text(encoding="utf-8").splitlines()
        outputs = back(corpus.tokenizer, references)
        for tokenize in ("13a", "zh") if language == "zho" else ("13a",):
            bleu = Metrics(tokenize).score(outputs, references).bleu
            assert bleu == pytest.approx(100) if rule == NFC or language == "ben" else bleu < 99
        figures = corpus.manifest["vocabulary"]["languages"]
        assert (figures[language]["changed"] == 0) == (rule == NFC or language == "ben")
        assert figures["eng"]["changed"] == 0 < figures["eng"]["compared"]
        assert corpus.manifest["vocabulary"]["normalization"] == rule
