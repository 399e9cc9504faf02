"""Where Mongolian sentences end.

English splitters stop at "УИХ-ын гишүүн Ц. Элбэгдорж" and "хят. 匈奴". Here a
full stop ends a sentence unless it belongs to an abbreviation, an initial, a
list number or what goes on in lower case. Nothing but the white space
between sentences is lost.
"""

import re

# Written from common knowledge of Mongolian print, in lower case, without the
# last full stop. A full word that is also an abbreviation (зах, төв, цаг) is
# left out, since it ends more sentences; only орос stays, for its glosses.
# These stand before a name, a gloss or a number: no sentence ends after them.
ABBREVIATIONS = frozenset(
  """
  проф акад док др ахм хош доц инж
  англ лат грек хят монг санск фр герм нем исп яп перс орос нан
  ж.нь ө.х өөрөөр.х д.х т.х х.н тухайлб
  м.э м.э.ө н.т.ө н.т н.э мэ мэө нтө
  зур хүс хуу хэвл эмх орч ред бот дэв
  """.split()
)
# These stand after a number or a list: a sentence ends there unless a number
# follows.
UNITS = frozenset(
  "км см мм дм га кг гр мг мл сек мин мян тэрб төг г.м гм".split()
)

# The possessive quantifiers and the look-behind keep a line of a million full
# stops linear.
_BOUNDARY = re.compile(
  r"(?<![.!?…])(?P<stop>[.!?…]++)"
  r"(?P<close>(?:[\"'»“”’)\]]|\s?\[\d+\])*+)"
  r"\s++"
  r"(?P<open>[\"'«“„‘(\[—–-]*+\s?)"
  r"(?P<next>\S)"
)
_LAST_TOKEN = re.compile(r"\S+$")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]$")
_LIST_NUMBER = re.compile(r"(?:\d{1,3}(?:\.\d{1,3})*|[IVXLC]+|[а-яөүё])$")
_DAY_OR_MONTH = re.compile(r"\d{1,2}(?!\d)")
_ASIDE = re.compile(r"\((?P<first>\w)[^()]*$")  # an unclosed parenthesis
_LOOK_BACK = 64  # characters; no abbreviation and few asides are longer


def split(paragraph: str) -> list[str]:
  """Returns the sentences of a paragraph, white space at the ends taken off.

  split("Ц. Элбэгдорж ирэв. Тэр явна.")
  # ["Ц. Элбэгдорж ирэв.", "Тэр явна."]
  """
  sentences, start, position = [], 0, 0
  while found := _BOUNDARY.search(paragraph, position):
    position = found.end("close")
    if _ends_sentence(paragraph, start, found):
      sentences.append(paragraph[start:position].strip())
      start = position
  sentences.append(paragraph[start:].strip())
  return [sentence for sentence in sentences if sentence]


def _ends_sentence(paragraph: str, start: int, found: re.Match[str]) -> bool:
  """Says whether the sentence that began at `start` ends here."""
  before = paragraph[max(start, found.start() - _LOOK_BACK) : found.start()]
  following = paragraph[found.start("next") : found.start("next") + 3]
  goes_on = found["next"].islower() and following[1:2] != ")"  # no "а) Ном"
  if goes_on or not any(map(str.isalnum, before)):
    return False
  aside = _ASIDE.search(before)
  if aside and found["close"].startswith(")"):
    return not aside["first"].islower()  # "эцэг нэгт ах (дүү?) Хүлгэн"
  if found["stop"] != "." or found["close"]:
    return True
  if aside and found["next"].isdigit():
    return False  # "(Жэймс нар. 1995)"
  token = _LAST_TOKEN.search(before)
  if token is None:
    return True
  at_start = found.start() - start < _LOOK_BACK and not any(
    map(str.isalnum, before[: token.start()])
  )
  return _word_ends_sentence(token[0].lstrip("\"'«“„‘(["), following, at_start)


def _word_ends_sentence(word: str, following: str, at_start: bool) -> bool:
  """Says whether a full stop after `word` ends a sentence.

  Args:
    word: what stands before the full stop.
    following: the first characters after it; not in lower case.
    at_start: the sentence consists of the word so far.
  """
  if word.lower() in ABBREVIATIONS:
    return False
  if word.lower() in UNITS:
    return not following[0].isdigit()
  if _INITIALS.fullmatch(word) and word[0].isupper():
    return not following[0].isalpha()
  if word.isdigit() and _DAY_OR_MONTH.match(following):
    return False  # a date: "2019. 05. 03"
  # "1. Гэр бүл": the number of a list.
  return not (at_start and _LIST_NUMBER.fullmatch(word))
