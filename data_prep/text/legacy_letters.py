"""Restores ө and ү, which a legacy font wrote as є, ї, ѳ, v or Y.

  repair("Тэмvжин бєгєєд їе")  # "Тэмүжин бөгөөд үе"

Other languages have these letters too: є and ї are Ukrainian, ѳ is old Russian,
and the v of "ХV" and the Y of "Yлаанбаатар" are Latin. So a word is repaired
only on evidence: its spelling is impossible in other languages, or its letters
follow each other as in Mongolian words. A word without evidence, such as "їе",
is repaired if another word of its line has evidence.
"""

import functools
import os
import re
from collections.abc import Iterable

from data_prep.files import storage

# The runs of three letters in Mongolian words, as learn_letter_runs found them.
# A line has two letters, a tab, and the letters that may follow the two.
TABLE = os.path.join(os.path.dirname(__file__), "letter_runs.tsv")

_MEANT = str.maketrans("єїѳvyЄЇѲVY", "өүөүүӨҮӨҮҮ")
_LEGACY = re.compile("[єїѳvЄЇѲVY]")
_WORD = re.compile(r"[^\W\d_]+")
_LETTERS = re.compile("[а-яА-ЯёЁөӨүҮєїѳvЄЇѲVY]{2,}")
# "ХV", fifteen, with a Cyrillic Х; "ТV"; and "Yлаанбаатар" and "Vитамин", in
# which the Latin letter is the У or В that it looks like, since no word begins
# with ү and goes on with back vowels.
_LATIN = re.compile("[ХСМV]+|[А-ЯЁӨҮVY]{2}|[VvY].*[аоуёяАОУЁЯ].*")

# In Mongolian no vowel but ө and ү, and ю, stands directly before ө or ү.
# Ukrainian has "має", "Україна", "своєї", and і in nearly every line.
_FOREIGN = re.compile("[іґ]|[аеёиоуыэя][єїѳ]|ю[єѳ]", re.IGNORECASE)
# Ukrainian has no ї after a consonant and none of э, ы, ё; v is no Cyrillic.
_OURS = re.compile("[бвгджзклмнпрстфхцчшщ]ї|[эыёөү]|[а-я]v|v[а-я]")
# A word with ө or ү and without back vowels (а, о, у, ё, я).
_FRONT = re.compile("(?=.*[өү])[б-нп-тф-юөү]{3,}")


def repair(text: str) -> str:
  """Returns a line or paragraph with legacy letters replaced by ө and ү.

  A word with such letters is changed if its spelling is evidence of Mongolian.
  It is also changed if another word of the line is such evidence and the line
  has no Ukrainian spelling. Words with letters of another alphabet and Roman
  numerals are never changed.
  """
  if not _LEGACY.search(text):
    return text
  words = {word for word in _WORD.findall(text) if _may_be_ours(word)}
  ours = {word for word in words if _is_ours(word.lower())}
  if ours and not _FOREIGN.search(text):
    ours = words
  return _WORD.sub(
    lambda word: word[0].translate(_MEANT) if word[0] in ours else word[0], text
  )


def _may_be_ours(word: str) -> bool:
  """Returns whether a word has legacy letters (є ї ѳ v Y) and may be Mongolian.

  The result is False for a word with letters of another alphabet, and for a
  Roman numeral.
  """
  return bool(
    _LEGACY.search(word)
    and _LETTERS.fullmatch(word)
    and not _LATIN.fullmatch(word)
  )


@functools.lru_cache(maxsize=1 << 16)  # words recur
def _is_ours(word: str) -> bool:
  """Returns whether a lower-case word alone is evidence of Mongolian.

  The result is False for a word with a Ukrainian spelling. Otherwise the result
  is True if the spelling occurs in no other Cyrillic language, or if the word,
  with ө and ү restored, has no back vowel and only runs of three letters that
  the table lists.
  """
  if _FOREIGN.search(word):
    return False
  if _OURS.search(word):
    return True
  meant = word.translate(_MEANT)
  return bool(_FRONT.fullmatch(meant)) and _runs(meant) <= _known_runs()


def _runs(word: str) -> set[str]:
  """Returns the runs of three letters in "^" + word + "$"."""
  marked = f"^{word}$"
  return {marked[start : start + 3] for start in range(len(word))}


@functools.cache
def _known_runs() -> frozenset[str]:
  """Returns the runs of three letters in the table of Mongolian words."""
  rows = (line.split("\t") for line in storage.lines(TABLE))
  return frozenset(two + third for two, thirds in rows for third in thirds)


def learn(text: Iterable[str]) -> dict[str, str]:
  """Returns the table of letter runs in a text: two letters → third letters.

  Pairs and third letters are in alphabetical order. "^" before a word and "$"
  after it count as letters. Only words of the kind that the table is used for
  count: in lower case at least three letters, with ө or ү and without back
  vowels.

  Args:
    text: lines of clean text.
  """
  words = {word for line in text for word in _WORD.findall(line.lower())}
  table: dict[str, str] = {}
  for run in sorted(set().union(*map(_runs, filter(_FRONT.fullmatch, words)))):
    table[run[:2]] = table.get(run[:2], "") + run[2]
  return table
