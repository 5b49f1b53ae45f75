"""Short frequent words by which languages are told apart, such as ``the``, ``of`` and ``to``.

In catalogs' text of 50 sentences, paired with 93 languages, those of English were 20 to 35 % of the words that only the
English side has; on its own side a language below had 7 to 36 %, on the other side hardly any.
"""

from __future__ import annotations

from collections.abc import Mapping

from data_prep.languages.codes import same_language

_WORDS = {
    "af": "die van nie vir en het wat met hierdie om aan moet ook sal",
    "az": "və bu bir üçün ilə olan olaraq daha kimi deyil",
    "be": "і з у для не на што як гэта калі каб пры або",
    "bg": "на за да се от в е и не са че като към по",
    "br": "ar an ur gant evit eo bet eus ne pe zo da ha",
    "bs hr sh": "je i u na za se da nije ili koji kao su ne od",
    "ca": "el la les els per amb és aquest aquesta que no un una del",
    "cs": "je na se v že pro nebo jako není která které by aby k",
    "cy": "yn y yr i wedi ar gyfer mae neu nid ei o am",
    "da": "og at er af ikke det til den en der for med på skal",
    "de": "der die das und nicht ist ein eine zu auf für mit von werden oder",
    "el": "το να και για του την η που σε από δεν της με είναι",
    "en": "the of to and is not this that for with be by from are you it or",
    "eo": "la kaj de estas por ne ĉi vi aŭ al el kiu tiu",
    "es": "el la los las que para por con una no es del se como",
    "et": "ja on ei ning või kui see selle mis kas ka ole",
    "eu": "eta da ez bat edo du dira egin izan hau behar",
    "fa": "و در به از این که را برای با است یک",
    "fi": "ja on ei että tai se ole joka kun voi tämä",
    "fo": "og at er í á ikki til við sum tað hann av",
    "fr": "le la les des et est pour dans une que pas vous sur du par",
    "fy": "de it en fan is net foar dy dat op mei oan",
    "ga": "an na ar agus is ní go le ag seo sé a bhfuil",
    "gd": "an air a agus seo tha airson thu cha bheil am gu",
    "gl": "o a os as que para non unha com co da do é por",
    "ha": "da na ta a ba wannan shi cikin don ne ce",
    "he": "את של לא על או אם עם זה יש כדי הוא",
    "hi": "है के में की का से को और यह पर नहीं",
    "hu": "a az és nem hogy egy is meg vagy ez van",
    "id": "yang dan di untuk tidak dengan ini dari pada anda dalam atau akan",
    "is": "að og er á í sem ekki til fyrir við með það um",
    "it": "il la che di e non per è con una del della sono da",
    "ka": "და არ არის რომ ამ ეს თუ ან",
    "kk": "және бұл үшін бар жоқ мен бір емес",
    "ko": "이 수 및 그 있는 있습니다 없습니다 할",
    "ku": "û li ji bi bo ku di ev vê ne",
    "ky": "жана бул үчүн менен же эмес бир",
    "lb": "de an den ass net fir eng vun ze op mat",
    "li": "van de en is neet veur in dees mit det",
    "lt": "ir yra į kad iš ar bet su nėra arba tai",
    "lv": "ir un uz ka no par vai ar nav lai",
    "mg": "ny sy amin' tsy ho dia ao fa izay",
    "mk": "на за да се во е и од не го со",
    "ms": "yang dan untuk tidak dengan ini di dalam pada anda telah atau boleh",
    "mt": "li ma u ta' din għal biex minn jew fuq",
    "nb no": "og å er ikke av det som til en på for med den",
    "nl": "de het een van en is niet voor met dat op te zijn worden",
    "nn": "og å er ikkje av det som til ein på for med eit",
    "nso": "go ya le ka a ba ke wa o e tša",
    "oc": "lo los la las de per es del que dins amb",
    "pl": "w nie na jest się do i że lub dla z jak",
    "pt": "o a os que para não uma com do da em um por é",
    "ro": "de și în la pentru nu este care cu o un să din",
    "ru": "в и не на для что с по это или из как к",
    "rw": "mu na ku ni n' kandi cyangwa muri iyi ya",
    "sk": "je na sa v že pre alebo ako nie ktorý ktoré by aby k",
    "sl": "je v na in za se da ni ali ki so bo če",
    "sq": "të e në dhe për nuk një është që nga me",
    "sr": "је и у на за се да није или који као су не je i u na za se da nije ili koji kao su ne od",
    "sv": "och att är inte för av det som till en på med den",
    "tg": "ва дар ба аз ки ин барои бо",
    "tl fil": "ang ng sa na mga ay at hindi ito para",
    "tr": "ve bir için bu ile veya değil olarak da",
    "uk": "і в не на для що з у та до це або як",
    "ur": "کے کی میں ہے سے کا اور کو یہ",
    "uz": "va bu bir uchun bilan emas yoki ham",
    "vi": "không của và các có là cho được một này",
    "wa": "les di des li el in est dins por",
    "yi": "די און איז אין פון דער נישט",
}


def _by_name() -> Mapping[str, frozenset[str]]:
    return {
        same_language(code, ()): frozenset(words.split()) for codes, words in _WORDS.items() for code in codes.split()
    }


_BY_NAME = _by_name()


def function_words(language: str) -> frozenset[str]:
    """Function words of a language in lower case; none if it is not known here, or writes no spaces between words.

    Args:
        language: code of two or three letters, and perhaps a script or region.
    """
    return _BY_NAME.get(same_language(language, ()), frozenset())
