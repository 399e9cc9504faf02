"""Splits Mongolian text into sentences.

Splitters for English also split inside "УИХ-ын гишүүн Ц. Элбэгдорж" and "хят.
匈奴". Here a full stop ends a sentence unless it belongs to an abbreviation, an
initial or a list number, or a lower-case letter follows. Only the white space
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
  inc ltd corp mr mrs dr prof
  """.split()
)
# These stand after a number or a list: a sentence ends there unless a number
# follows.
UNITS = frozenset(
  "км см мм дм га кг гр мг мл сек мин мян тэрб төг г.м гм".split()
)

# Possessive quantifiers keep the time linear for a line of a million full
# stops: a run of stops is matched whole, whether or not white space follows.
# Emoji and the marks of notes belong to the sentence that they follow. They are
# matched whole by a lookahead, since Python before 3.11.5 matches possessive
# groups wrongly.
_STOP = re.compile(
  r"(?P<stop>[.!?…]++)"
  r"(?:(?=(?P<close>(?:[\"'»“”’)\]]|\s?\[\d+\]"
  r"|\s?[☀-➿\U0001f300-\U0001faff]\ufe0f?)*))(?P=close)"
  r"(?=\s++(?P<open>[\"'«“„‘(\[—–-]*+)\s?(?P<next>\S)))?"
)
_QUOTE = re.compile("[\"'»“”’]")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]$")
_LIST_NUMBER = re.compile(r"(?:\d{1,3}(?:\.\d{1,3})*|[IVXLC]+|[а-яөүё])$")
# The beginning of a heading or caption: "4 дүгээр зүйл.", "Хүснэгт 3.".
_LABEL = re.compile(
  r"(?:\d+(?:\s?-?\s?р|\s(?:дугаар|дүгээр))?|[IVXLC]+)\s(?:зүйл|бүлэг|хэсэг)"
  r"|(?:хүснэгт|зураг|график|диаграмм|бүдүүвч|хавсралт)\s\d+(?:\.\d+)*",
  re.IGNORECASE,
)
_DAY_OR_MONTH = re.compile(r"\d{1,2}(?!\d)")
_ASIDE = re.compile(r"\((?P<first>\w)[^()]*$")  # an unclosed parenthesis
_LOOK_BACK = 64  # characters; no abbreviation and few asides are longer


def split(paragraph: str) -> list[str]:
  """Returns the sentences of a normalised paragraph, stripped; [] for "".

  split("Ц. Элбэгдорж ирэв. Тэр явна.")
  # ["Ц. Элбэгдорж ирэв.", "Тэр явна."]
  """
  sentences, start = [], 0
  for stop in _STOP.finditer(paragraph):
    if stop["next"] and _ends_sentence(paragraph, start, stop):
      sentences.append(paragraph[start : stop.end()].strip())
      start = stop.end()
  sentences.append(paragraph[start:].strip())
  return [sentence for sentence in sentences if sentence]


def _ends_sentence(paragraph: str, start: int, stop: re.Match[str]) -> bool:
  """Returns whether the sentence that began at `start` ends at a stop.

  Args:
    paragraph: the whole paragraph.
    start: the index at which the sentence begins.
    stop: a match of _STOP that text follows.
  """
  before = paragraph[max(start, stop.start() - _LOOK_BACK) : stop.start()]
  following = paragraph[stop.start("next") : stop.start("next") + 3]
  if _goes_on(following) or not any(map(str.isalnum, before)):
    return False
  if _QUOTE.search(stop["close"]) and stop["open"].startswith("("):
    return False  # a title and its gloss: "Хэн бэ?" ("Who?")
  aside = _ASIDE.search(before)
  if aside and stop["close"].startswith(")"):
    return not aside["first"].islower()  # "эцэг нэгт ах (дүү?) Хүлгэн"
  if stop["stop"] != "." or stop["close"]:
    return True
  if aside and following[0].isdigit():
    return False  # "(Жэймс нар. 1995)"
  whole = stop.start() - start < _LOOK_BACK
  return _full_stop_ends_sentence(before, following, whole)


def _goes_on(following: str) -> bool:
  """Returns whether a sentence goes on, because a lower-case letter follows.

  The result is False for "а) Ном" and "iPhone": such beginnings start a
  sentence.
  """
  return following[0].islower() and not (
    following[1:2] == ")" or following[1:2].isupper()
  )


def _full_stop_ends_sentence(before: str, following: str, whole: bool) -> bool:
  """Returns whether a single full stop ends a sentence.

  Args:
    before: the text before the full stop.
    following: the first characters after it; not a lower-case letter.
    whole: True: `before` is the whole sentence so far; False: only its end.
  """
  earlier, word = _last_word(before)
  if not word:
    return True
  if word.lower() in ABBREVIATIONS:
    return False
  if word.lower() in UNITS:
    return not following[0].isdigit()
  if _INITIALS.fullmatch(word) and word[0].isupper():
    return not following[0].isalpha()
  if word.isdigit() and _DAY_OR_MONTH.match(following):
    return False  # a date: "2019. 05. 03"
  if whole and _LABEL.fullmatch(before.strip()):
    return False
  # "1. Гэр бүл": the number of a list.
  alone = whole and not any(map(str.isalnum, earlier))
  return not (alone and _LIST_NUMBER.fullmatch(word))


def _last_word(text: str) -> tuple[str, str]:
  """Returns (the text before the last word, the last word).

  A word follows the last space. Quotation marks and brackets that open before
  the word stay with the text before it. The word may be "".
  """
  start = text.rfind(" ") + 1
  word = text[start:].lstrip("\"'«“„‘([")
  return text[: len(text) - len(word)], word
