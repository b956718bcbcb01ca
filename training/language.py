"""Words that tell English from other languages written in Latin letters."""

from __future__ import annotations

from typing import Final

from loopwise.model.features import tokenize
from loopwise.model.modelfile import ENGLISH, FOREIGN

_ENGLISH: Final = """
a about after all also an and any are as at be because been before but by can could did do does for from
get had has have he her his how i if in into is it its just let make more my need new no not of off on one
only or our out over please see she should so some such than that the their them then there these they this
to up us use using via was we were what when where which while who why will with without would you your
"""
# Frequent words of German, French, Spanish, Italian, Portuguese, Dutch, Polish, Czech, Swedish, Turkish
# and Indonesian that are not words of English task texts.
_FOREIGN: Final = """
und der das ist nicht ein eine einen auf für mit dem den sich auch wird werden oder bei nach aus zum zur
wir sie ich bitte müssen kann noch wenn dass über wie alle unsere
le les des une est dans pour sur avec qui que pas nous vous ce cette sont mais plus ou aux leur être fait
il elle je du et à où très
el los las una por para con del se que como más pero sus este esta todo hay está son nuestro y
il lo gli una che di non sono per della nel alla questo come più anche dei delle è
o os as um uma não para com em dos das ao mais seu sua foi são está você
het een van niet zijn voor met aan ook dat wordt naar bij deze worden wij
nie się jest na do że jak dla od czy oraz tak po przez są
se na že je pro jako jsou nebo který od při
och att det som är inte på av till den ett kan från ska
ve bir bu için ile da olarak daha çok olan değil
yang dan di untuk dengan ini tidak dari pada akan
"""


def language_words() -> dict[str, int]:
    """Return folded function words with their flag, `ENGLISH` or `FOREIGN`."""
    english = set(tokenize(_ENGLISH))
    # Short words double as abbreviations and words of English: "do", "as", "a", "van", "met", "den".
    doubtful = english | set(
        tokenize("van met den del com que per na pro od po las o e y da das os dan kan plus")
    )
    foreign = set(tokenize(_FOREIGN)) - doubtful
    return dict.fromkeys(english, ENGLISH) | dict.fromkeys(foreign, FOREIGN)
