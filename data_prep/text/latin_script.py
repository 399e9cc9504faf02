"""Recognises Mongolian in Latin letters, and converts it to Cyrillic.

  is_mongolian("sain baina uu, yu bgaa ve")  # True
  cyrillic_word("sain")  # "сайн"

Many tweets are written in Latin letters, without a standard spelling (ө is o, u
or 6; х is h, x or kh). So the result is a guess: tests/latin_script_test.py has
its accuracy.
"""

import re

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_LATIN = re.compile(r"[a-zA-Z]")
_CYRILLIC = re.compile(r"[\u0400-\u052f]")

# Small words of both languages, from common knowledge. Words of both languages
# (bi, end, yes, as, hen) are in neither set.
_MONGOLIAN = frozenset(
  "bn bna baina bgaa baigaa bsan baisan bdag bdg baidag bol bolno bolson yu yum "
  "ym yumaa shuu shvv shd shdee uu uuu yuu yum ene ter teed tegeed tgd gej gj "
  "geed gsn gesen gedeg gdg ni min mini chin chini bas neg nig hoyor gurav "
  "ih ikh mash sain sn sainuu mongol mongold hun hvn humuus humus ugui ugvi "
  "bish bh bhgui baihgui buh odoo oroi uchir uchraas bidnii bid ted tednii "
  "nadad chamd namaig chamaig hezee yaaj yahad yagaad yaagaad haana "
  "za zaza tiim iim zugeer zvgeer bayarlalaa bayrlalaa ajil unuudur onoodor "
  "margaash uchigdur hudlaa huurhun hairtai saihan goy goyo naiz naizuud "
  "yavna yavlaa irsen ireh hiisen hiij hiih deer door ruu ruugaa daraa".split()
)
_ENGLISH = frozenset(
  "the of and to in is that it was for on are with he be at this have from or "
  "had by not but what all were we when your can said there an which she "
  "do their if will up other about out many then them these so some her would "
  "make like him into has look more go see no way could my than been who now "
  "people i me you they our just get don't it's i'm love good new".split()
)
# Endings of Mongolian words that no common English one has.
_ENDING = re.compile(
  r"..(?:aa[dnrs]?|ee[gs]|oo[gs]|uud|uul|iig|iin|ii|san|sen|son|jee|chee|laa|"
  r"lee|loo|dag|deg|dog|tai|tei|toi|gui|gvi|na|ne|no|aas|ees|oos|aar|oor|"
  r"j|ch|h|kh|had|hed|h[ao]d|vv|uu)$"
)
# Smallest score, as a share of the words. It recognises 83 to 91 % of a novel,
# and takes one of 4,690 English sentences for Mongolian.
_ENOUGH = 0.25


def is_mongolian(text: str) -> bool:
  """Returns whether a text seems to be Mongolian in Latin letters.

  The result is False unless the text has more than twice as many Latin letters
  as Cyrillic ones. Then it gets a score: 1 for each frequent small word of
  Mongolian, 0.7 for each other word with a Mongolian ending, −1 for each
  frequent word of English. The score must be at least a quarter of the number
  of words. The case of letters does not matter.
  """
  if len(_LATIN.findall(text)) <= 2 * len(_CYRILLIC.findall(text)):
    return False
  words = [word.lower() for word in _WORD.findall(text)]
  small = sum(word in _MONGOLIAN for word in words)
  ending = sum(
    word not in _MONGOLIAN and _ENDING.search(word) is not None
    for word in words
  )
  english = sum(word in _ENGLISH for word in words)
  return small + 0.7 * ending - english >= _ENOUGH * len(words)


# Words with front vowels, which their Latin spelling does not show.
_FRONT = frozenset(
  "ugui hun hund hunii humuus humus buh bur burt odor udur unuudur onoodor "
  "uchigdur uchigdor ug ugs uye ued uur oor uuriin ooriin uuruu ooroo nuhur "
  "nohor huu huuhed huuhduud bugd buguud bogood zuv zov zuvhun zovhon zun hudul "
  "shuu uglu ugluu ogloo uvul ovol ungu ongo mun mon tuunii tuuniig uunii "
  "uuniig umnu omno nud nudnii bukh khun khund uzsen gund tumur tomor undur "
  "ondor durvun dorvon burgud".split()
)
_IRREGULAR = {
  "bn": "байна",
  "bna": "байна",
  "bgaa": "байгаа",
  "bsan": "байсан",
  "bdag": "байдаг",
  "bdg": "байдаг",
  "bh": "байх",
  "bhgui": "байхгүй",
  "gj": "гэж",
  "gsn": "гэсэн",
  "gdg": "гэдэг",
  "tgd": "тэгээд",
  "ym": "юм",
  "shd": "шүү дээ",
  "sn": "сайн",
  "ni": "нь",
  "ve": "вэ",
  "be": "бэ",
  "bi": "би",
  "chi": "чи",
  "ter": "тэр",
  "yu": "юу",
  "neg": "нэг",
}
_DIGRAPHS = (
  ("shch", "щ"),
  ("tsh", "цх"),
  ("yoo", "ёо"),
  ("yuu", "юу"),
  ("yaa", "яа"),
  ("sh", "ш"),
  ("ch", "ч"),
  ("ts", "ц"),
  ("tz", "ц"),
  ("kh", "х"),
  ("zh", "ж"),
  ("dz", "з"),
  ("ya", "я"),
  ("ye", "е"),
  ("yo", "ё"),
  ("yu", "ю"),
  ("ii", "ий"),
)
_SINGLE = dict(
  zip("abvwgdejziklmnoprstufhxcqy", "абввгдэжзиклмнопрстуфххцкы", strict=True)
)
_SINGLE |= {"ö": "ө", "ü": "ү", "6": "ө", "'": "ь"}


# A word; ө may be written 6, and ь as an apostrophe. Without a letter it is no
# word, and `cyrillic_word` does not change it.
LATIN_WORD = re.compile(r"[a-zA-ZöüÖÜ6']+")


def cyrillic_word(word: str) -> str:
  """Returns a word of Latin letters in Cyrillic.

  A word in capitals stays in capitals; of other words only the first letter can
  be a capital. A match without a letter is returned as it is.

  Args:
    word: a match of LATIN_WORD.
  """
  if not word.strip("6'"):
    return word
  cyrillic = _lower(word.lower())
  if word.isupper() and len(word) > 1:
    return cyrillic.upper()
  return cyrillic[0].upper() + cyrillic[1:] if word[0].isupper() else cyrillic


def _lower(word: str) -> str:
  """Returns the Cyrillic form of a lower-case word of Latin letters."""
  if word in _IRREGULAR:
    return _IRREGULAR[word]
  converted = word
  for latin, cyrillic in _DIGRAPHS:
    converted = converted.replace(latin, cyrillic)
  # i and y behind a vowel are й: сайн, гой, үгүй.
  converted = re.sub(r"(?<=[aeouöüv])[iy]", "й", converted)
  # v away from any vowel is ү, as in hvn.
  converted = re.sub(
    r"(?<![aeiouйяеёюи])v+(?![aeiou])", lambda m: "ү" * len(m[0]), converted
  )
  converted = "".join(_SINGLE.get(letter, letter) for letter in converted)
  if _is_front(word):
    return converted.translate(str.maketrans("оу", "өү"))
  if not re.search("[ауоя]", converted):
    return converted
  return _BACK_ENDING.sub(lambda match: _BACK[match[0]], converted)


# The genitive and accusative after а, о, у: улсын, but багшийн.
_BACK = {"ийн": "ын", "ийг": "ыг", "ний": "ны"}
_BACK_ENDING = re.compile(r"(?<=[бвдзклмнпрстфхц])(?:ийн|ийг|ний)$")


def _is_front(word: str) -> bool:
  """Returns whether a word in Latin letters seems to have front vowels (э ө ү).

  By vowel harmony a word has either these vowels or the back vowels а, о and у.
  The result is True for a word in _FRONT, and for a word without a that has e,
  ö, ü, 6, or a v that does not follow a vowel.

  Args:
    word: in lower case.
  """
  if word in _FRONT:
    return True
  return (
    "a" not in word and re.search("e|ö|ü|6|(?<![aeiou])v", word) is not None
  )
