"""BLEU's tokenizer by target language."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from smoe_ds.errors import DataError
from smoe_ds.evaluate.metrics import Metrics, metrics_for
from smoe_ds.evaluate.tokenizers import TOKENIZERS, check_tokenizer, fitting_tokenizer, is_installed

CHINESE = ["请立即保存当前打开的文件。", "您确定要删除这个文件夹吗？", "无法连接到服务器，请稍后再试。"]
THAI = ["กรุณาบันทึกไฟล์เดี๋ยวนี้", "คุณแน่ใจหรือไม่ว่าต้องการลบโฟลเดอร์นี้", "เชื่อมต่อกับเซิร์ฟเวอร์ไม่ได้"]


@pytest.mark.parametrize(
    ("tokenizer", "languages"),
    [
        ("13a", "eng en eng_Latn nso cat hin_Deva vie ind srp_Cyrl zho_Latn tha_Latn xx arb_Arab amh jav_Latn"),
        ("13a", "nan_Latn hak-Latn kor_Latn jpn_Latn khm_Latn yue_Latn"),
        ("zh", "zh zho chi cmn yue zho_Hans zho_Hant yue_Hant cmn_hans zh_CN zh_tw ZH zh-yue nan_Hant und_Hanb"),
        ("zh", "cdo cjy cmn cnp cpx csp czh czo gan hak hsn lzh mnp nan wuu yue zhx nan-TW hak_TW"),
        ("char", "th tha tha_Thai lo lao km khm my mya bur bo bod tib dz dzo shn_Mymr und_Tibt jav_Java"),
        ("char", "tha-TH lao_Laoo khm_Khmr mya_Mymr ryu ojp lbj pwo"),
    ],
)
def test_by_code_and_script(tokenizer: str, languages: str) -> None:
    assert {language: fitting_tokenizer(language) for language in languages.split()} == dict.fromkeys(
        languages.split(), tokenizer
    )


def test_sacrebleus_own_choice_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from sacrebleu.metrics import BLEU

    monkeypatch.setattr("smoe_ds.evaluate.tokenizers.find_spec", lambda package: object())
    own = BLEU._TOKENIZER_MAP
    assert {"ja", "ko", "zh"} <= set(own) and {code: fitting_tokenizer(code) for code in own} == own


@pytest.mark.parametrize(("codes", "name"), [("ja jpn jpn_Jpan", "ja-mecab"), ("ko kor kor_Hang", "ko-mecab")])
@pytest.mark.parametrize("there", [True, False])
def test_japanese_and_korean_by_what_is_installed(
    codes: str, name: str, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smoe_ds.evaluate.tokenizers.find_spec", lambda package: object() if there else None)
    assert {fitting_tokenizer(code) for code in codes.split()} == {name if there else "char"}


@pytest.mark.parametrize(("language", "lines"), [("zho", CHINESE), ("tha", THAI)])
def test_one_wrong_character_a_sentence_is_no_total_failure(language: str, lines: list[str]) -> None:
    slips = [line[:3] + line[4:] for line in lines]
    assert Metrics("13a").score(slips, lines).bleu < 5
    assert 50 < metrics_for(language).score(slips, lines).bleu < 100
    assert metrics_for(language).score(lines, lines).bleu == pytest.approx(100)


def test_chinese_in_latin_letters_is_scored_as_other_latin_text() -> None:
    lines = ["Góa beh khì chhī-á bé hî, mā beh bé bah.", "Lí kám chai i tang-sî tńg--lâi? Góa m̄ chai."]
    slips = [line.replace("hî", "chháu").replace("kám", "bô") for line in lines]
    scores = [metrics.score(slips, lines).bleu for metrics in (metrics_for("nan"), Metrics("13a"))]
    assert scores[0] == pytest.approx(scores[1]) and 5 < scores[0] < 90


def test_all_tokenizers_of_sacrebleu_can_be_chosen() -> None:
    from sacrebleu.metrics import BLEU

    assert set(TOKENIZERS) == set(BLEU.TOKENIZERS)


@pytest.mark.parametrize(("name", "packages"), [("ja-mecab", ("MeCab", "ipadic")), ("ko-mecab", ("mecab_ko",))])
def test_a_missing_package_is_named(name: str, packages: tuple[str, ...]) -> None:
    if all(find_spec(package) for package in packages):
        assert is_installed(name) and Metrics(name).tokenizer == name
        return
    with pytest.raises(
        DataError, match=rf"--tokenize {name}: needs the packages {packages[0]}.*sacrebleu\[{name[:2]}\]"
    ):
        check_tokenizer(name)
