"""Where Mongolian sentences end.

English splitters stop at "УИХ-ын гишүүн Ц. Элбэгдорж" and "хят. 匈奴". Here a
full stop ends a sentence unless it belongs to an abbreviation, an initial, a
list number or what goes on in lower case. Nothing but the white space
between sentences is lost.
"""

import re

# Written from common knowledge of Mongolian print: titles, languages of
# glosses, units, eras. Lower case, without the last full stop.
ABBREVIATIONS = frozenset(
  [
    "проф",
    "акад",
    "док",
    "др",
    "ген",
    "хур",
    "дэд",
    "ахм",
    "хош",
    "нэрт",
    "англ",
    "орос",
    "лат",
    "грек",
    "хят",
    "монг",
    "төв",
    "санск",
    "фр",
    "герм",
    "нем",
    "исп",
    "яп",
    "сол",
    "тур",
    "манж",
    "перс",
    "м.э",
    "м.э.ө",
    "н.т.ө",
    "н.э",
    "мэ",
    "мэө",
    "нтө",
    "г.м",
    "ж.нь",
    "ө.х",
    "өөрөөр.х",
    "д.х",
    "х.н",
    "т.х",
    "тэр",
    "зах",
    "гэр",
    "утас",
    "ут",
    "тоо",
    "зур",
    "хүс",
    "хуу",
    "хэвл",
    "эмх",
    "орч",
    "ред",
    "бот",
    "дэв",
    "мян",
    "сая",
    "тэрб",
    "төг",
    "сек",
    "мин",
    "цаг",
    "км",
    "см",
    "мм",
    "кг",
    "гр",
  ]
) - frozenset({"тоо", "цаг", "утас", "гэр", "сая", "тэр", "нэрт"})

_BOUNDARY = re.compile(
  r"(?P<stop>[.!?…]+)"
  r"(?P<close>(?:[\"'»”’)\]]|\s?\[\d+\])*)"
  r"\s+"
  r"(?P<open>[\"'«“‘(\[—–-]*\s?)"
  r"(?P<next>\S)"
)
_LAST_TOKEN = re.compile(r"\S+$")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]$")
_NUMBER = re.compile(r"(?:\d{1,3}|[IVXLC]+|[а-яөүё])$")
_LOOK_BACK = 64  # letters; no abbreviation is longer


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
  if found["next"].islower():
    return False
  if found["stop"] != "." or found["close"]:
    return True
  before = paragraph[max(start, found.start() - _LOOK_BACK) : found.start()]
  token = _LAST_TOKEN.search(before)
  if token is None:
    return True
  word = token[0].lstrip("\"'«“‘([")
  if word.lower() in ABBREVIATIONS:
    return False
  if _INITIALS.fullmatch(word) and word[0].isupper():
    return not found["next"].isalpha()
  if word.isdigit() and found["next"].isdigit():
    return False  # a date: "2019. 05. 03"
  # "1. Гэр бүл": the number of a list.
  at_start = not before[: token.start()].strip() and found.start() - start < 64
  if _NUMBER.fullmatch(word):
    return not at_start
  return True
