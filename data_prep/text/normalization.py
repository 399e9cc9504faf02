r"""Normalises Mongolian text: one form for each letter, and no letter is lost.

  normalize("Саи\u0306н\u00a0 байна уу")  # "Сайн байна уу"

Letters are composed (NFC), so that й and ё are one code point each however they
were typed; google-research's preprocessing decomposes them and drops the marks
(сайн → саин). Compatibility forms are kept (№ does not become No).
"""

import re
import unicodedata
from collections.abc import Iterator

from data_prep.text import alignment, legacy_letters

ALPHABET = "абвгдеёжзийклмноөпрстуүфхцчшщъыьэюя"

# Control and format characters (Unicode's Cc and Cf) but for white space, the
# joiners of emoji, and the joiners and vowel separator of the old script.
_INVISIBLE = re.compile(
  "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f"
  "\u0890\u0891\u08e2\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
  "\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
  "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
  "\U000e0020-\U000e007f]"
)


# NFC sorts a run of combining marks, in time that grows with its square. A run
# may have 30 of them (Unicode's UAX #15, section 13, "Stream-Safe Text Format",
# which puts U+034F after each 30); no language has so many.
_MOST_MARKS, _JOINER = 30, "\u034f"
_NO_LETTERS = re.compile(rf"[^\w\s]{{{_MOST_MARKS + 1},}}")


def _interrupted(run: re.Match[str]) -> str:
  """Returns the text of a match with U+034F after each 30 marks in a row."""
  parts, marks = [], 0
  for letter in run[0]:
    decomposed = unicodedata.normalize("NFD", letter)
    new = sum(map(bool, map(unicodedata.combining, decomposed)))
    marks = marks + new if new else 0
    if marks > _MOST_MARKS:
      parts.append(_JOINER)
      marks = new
    parts.append(letter)
  return "".join(parts)


def normalize(text: str, repair_legacy: bool = False) -> str:
  """Returns the text in NFC, without control characters, with single spaces.

  White space of any kind, line breaks too, becomes a space; none is left at the
  ends. In a run of combining marks, U+034F is put after each 30 of them. The
  case of letters is kept.

  Args:
    text: one line or paragraph.
    repair_legacy: whether to restore ө and ү, which a legacy font wrote as є,
      ї, ѳ, v or Y.
  """
  if not text.isprintable():  # printable text has nothing invisible
    text = _INVISIBLE.sub("", text)
  text = _NO_LETTERS.sub(_interrupted, text)
  unified = " ".join(unicodedata.normalize("NFC", text).split())
  return legacy_letters.repair(unified) if repair_legacy else unified


# White space, except single spaces; and a space at either end of a text.
_OTHER_SPACE, _OUTER_SPACE = (
  re.compile(r"\s{2,}|[^\S ]"),
  re.compile(r"\A | \Z"),
)


def traced(text: alignment.Traced) -> alignment.Traced:
  """Returns a text normalised as by `normalize`, with each letter's origin.

  Legacy letters are not repaired.
  """
  text = text.sub(_INVISIBLE, "").sub(_NO_LETTERS, _interrupted)
  if not unicodedata.is_normalized("NFC", text.text):
    text = text.edited(_compositions(text.text))
  return text.sub(_OTHER_SPACE, " ").sub(_OUTER_SPACE, "")


def _compositions(text: str) -> Iterator[alignment.Edit]:
  """Yields edits that replace a text by its composed form (NFC).

  An edit is (begin, end, composed text). It is as short as possible: a letter
  and its marks. Together the edits cover the whole text.
  """
  begin = 0
  for end in range(1, len(text) + 1):
    if end == len(text) or _is_apart(text[begin:end], text[end]):
      yield begin, end, unicodedata.normalize("NFC", text[begin:end])
      begin = end


def _is_apart(before: str, letter: str) -> bool:
  """Returns whether NFC never composes a character with the text before it."""
  if unicodedata.combining(unicodedata.normalize("NFD", letter)[0]):
    return False
  before_nfc, letter_nfc, both_nfc = (
    unicodedata.normalize("NFC", part)
    for part in (before, letter, before + letter)
  )
  return before_nfc + letter_nfc == both_nfc
