"""Scripts of languages, and codes that mean one language."""

from __future__ import annotations

import pytest

from data_prep.languages.codes import are_one, misspelt, same_language, usual_scripts
from data_prep.languages.scripts import NUMBER_OF_CODE, script_of
from data_prep.readers.side_lines import lines_of
from data_prep.spec.code_warnings import code_warnings
from data_prep.spec.sections import Spec
from data_prep.text.features import features_of

M4_AND_M15 = "eng nso msa tgl cat ind isl slv run nob glg ssw fao ltz lim fur"
OPUS_100 = """af am an ar as az be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr
hu hy id ig is it ja ka kk km kn ko ku ky li lt lv mg mk ml mn mr ms mt my nb ne nl nn no oc or pa pl ps pt ro ru rw se
sh si sk sl sq sr sv ta te tg th tk tr tt ug uk ur uz vi wa xh yi yo zh zu"""
FLORES_SCRIPTS = """Arab Armn Beng Cyrl Deva Ethi Geor Grek Gujr Guru Hang Hans Hant Hebr Jpan Khmr Knda Laoo Latn Mlym
Mymr Olck Orya Sinh Taml Telu Tfng Thai Tibt"""

SENTENCES = {
    "en": "Do you still remember the name of the author of SÜDKURIER?",
    "ru": "Где здесь ближайшая аптека, скажите?",
    "el": "Πού είναι το πλησιέστερο φαρμακείο;",
    "hy": "Որտե՞ղ է մոտակա դեղատունը",
    "ka": "სად არის უახლოესი აფთიაქი?",
    "he": "איפה בית המרקחת הקרוב?",
    "yi": "װוּ איז די נאָענטסטע אַפּטייק?",
    "ar": "أين أقرب صيدلية؟",
    "fa": "نزدیک‌ترین داروخانه کجاست؟",
    "am": "በአቅራቢያ ያለው ፋርማሲ የት ነው?",
    "hi": "निकटतम दवाख़ाना कहाँ है?",
    "bn": "নিকটতম ফার্মেসি কোথায়?",
    "pa": "ਸਭ ਤੋਂ ਨੇੜੇ ਦੀ ਫਾਰਮੇਸੀ ਕਿੱਥੇ ਹੈ?",
    "gu": "નજીકની ફાર્મસી ક્યાં છે?",
    "or": "ନିକଟତମ ଫାର୍ମାସୀ କେଉଁଠି?",
    "ta": "அருகிலுள்ள மருந்தகம் எங்கே?",
    "te": "దగ్గరి మందుల దుకాణం ఎక్కడ ఉంది?",
    "kn": "ಹತ್ತಿರದ ಔಷಧಾಲಯ ಎಲ್ಲಿದೆ?",
    "ml": "അടുത്തുള്ള ഫാർമസി എവിടെയാണ്?",
    "si": "ළඟම ෆාමසිය කොහෙද?",
    "th": "ร้านขายยาที่ใกล้ที่สุดอยู่ที่ไหน",
    "lo": "ຮ້ານຂາຍຢາໃກ້ທີ່ສຸດຢູ່ໃສ?",
    "km": "ឱសថស្ថានដែលនៅជិតបំផុតនៅឯណា?",
    "my": "အနီးဆုံး ဆေးဆိုင် ဘယ်မှာလဲ။",
    "dz": "སྨན་ཁང་ག་ཏེ་ཡོདཔ་སྨོ།",
    "zh": "最近的药店在哪里？",
    "ja": "いちばん近い薬局はどこですか。",
    "ko": "가장 가까운 약국이 어디예요?",
}


def test_scripts_of_all_languages_of_the_recipes_are_known() -> None:
    assert not [code for code in f"{M4_AND_M15} {OPUS_100}".split() if not usual_scripts(code)]
    assert len(OPUS_100.split()) == 100
    assert not [code for code in FLORES_SCRIPTS.split() if not usual_scripts(f"xyz_{code}")]
    assert usual_scripts("xyz") == usual_scripts("xyz_Zzzz") == frozenset()


@pytest.mark.parametrize(
    ("code", "scripts"),
    [("sr", "Latn Cyrl"), ("srp", "Latn Cyrl"), ("srp_Cyrl", "Cyrl"), ("sh", "Latn Cyrl"), ("uz", "Latn Cyrl Arab"),
     ("ku", "Latn Arab"), ("zho_Hant", "Hani Bopo"), ("yue_Hant", "Hani Bopo"), ("jpn_Jpan", "Hani Hira Kana"),
     ("kas_Deva", "Deva"), ("nso_Latn", "Latn"), ("tgl", "Latn"), ("zgh_Tfng", "Tfng")],
)  # fmt: skip
def test_scripts(code: str, scripts: str) -> None:
    assert usual_scripts(code) == {NUMBER_OF_CODE[name] for name in scripts.split()}


def test_sentences_are_at_home_in_their_language_and_foreign_in_languages_of_other_scripts() -> None:
    for sentence in SENTENCES.values():
        scripts = [script_of(character) for character in sentence if character.isalpha()]
        main = max(set(scripts), key=scripts.count)
        for other in SENTENCES:
            foreign = bool(features_of(lines_of([sentence]), usual_scripts(other), 0.5).foreign[0])
            assert foreign == (main not in usual_scripts(other)), (sentence, other)
    assert all(
        not features_of(lines_of([text]), usual_scripts(name), 0.9).foreign[0] for name, text in SENTENCES.items()
    )


def test_codes_of_one_language() -> None:
    variants = [["no", "nb", "nn"], ["hbs", "srp"]]
    assert {same_language(code, variants) for code in ("no", "nor", "nb", "nob_Latn", "nn", "nno")} == {"nor"}
    assert {same_language(code, variants) for code in ("en", "eng", "eng_Latn", "EN")} == {"eng"}
    assert same_language("sr", variants) == "hbs" and same_language("hr", variants) == "hrv"
    assert same_language("xyz_Latn", variants) == same_language("xyz", []) == "xyz"


def test_known_codes_are_not_odd_and_misspelt_ones_are() -> None:
    known = f"{M4_AND_M15} {OPUS_100} lug lg xh arb_Arab zho_Hant jpn_Jpan en_GB pt_BR sr_Cyrl tzm_Tfng sat_Olck"
    assert not [code for code in known.split() if misspelt(code)]
    assert misspelt("qqq") == "no language qqq is known here; check the code"
    assert misspelt("nso_Ltan") == "no script Ltan is known here; is it nso_Latn?"
    assert misspelt("NSO") == "no language NSO is known here; is it nso?"
    assert misspelt("engl_latn") == "no language engl_latn is known here; is it eng_Latn?"


def test_two_codes_of_one_language() -> None:
    assert are_one("en", "eng") and are_one("eng", "eng_Latn") and are_one("NSO", "nso") and are_one("zh", "zho_Hant")
    assert not are_one("zho_Hans", "zho_Hant") and not are_one("nb", "nn") and not are_one("sr_Cyrl", "hr")


def test_odd_codes_of_a_specification_are_warned_of() -> None:
    codes = ["nso", "NSO", "qqq", "zho_Hans", "zho_Hant"]
    pairs = [{"pair": f"eng-{code}", "train": [{"tsv": code}]} for code in codes]
    spec = Spec.model_validate({"output": "x", "pairs": pairs})
    assert list(code_warnings(spec)) == [
        "eng-NSO: no language NSO is known here; is it nso?",
        "eng-qqq: no language qqq is known here; check the code",
        "NSO and nso are one language, but have a token and directions each; write one code",
    ]
