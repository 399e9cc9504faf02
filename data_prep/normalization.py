"""Mongolian text without accidents: one form of each letter, none lost.

    normalize("Саи\\u0306н\\u00a0 байна уу")  # "Сайн байна уу"

Letters are composed (NFC), so that й and ё are one letter each however they
were typed; google-research's preprocessing decomposes them and drops the
marks (сайн → саин). Compatibility forms stay (№ is not No).
"""

import re
import unicodedata

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

_LEGACY = str.maketrans("єїѳvЄЇѲVY", "өүөүӨҮӨҮҮ")
_WORD = re.compile(r"[^\W\d_]+")
_LEGACY_LETTER = re.compile("[єїѳvЄЇѲVY]")
_LATIN_LEGACY = re.compile("[vVY]")
_BACK_VOWEL = re.compile("[аоуёяАОУЁЯ]")
# In Mongolian no ө or ү follows another vowel, but for юү and long ones.
_HIATUS = re.compile("[аеёийоуыэяАЕЁИЙОУЫЭЯ][єїѳЄЇѲ]")


def normalize(text: str, repair_legacy: bool = False) -> str:
  """Returns the text composed, without control characters, spaces unified.

  Args:
    text: one line or paragraph.
    repair_legacy: also put ө and ү where a legacy font left є, ї, ѳ or v.
  """
  composed = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
  unified = " ".join(composed.split())
  return repair_legacy_letters(unified) if repair_legacy else unified


def repair_legacy_letters(text: str) -> str:
  """Replaces legacy-font letters in words that are Mongolian otherwise.

  A word is left alone unless all its letters are Mongolian after the repair,
  at least one was before, and the sounds agree: with є, ї and ѳ, which are
  letters of other languages, the word has three letters or more, no back
  vowel, and no other vowel in front of them. So Ukrainian "Європа", "неї",
  "їх" and "Київ" stay.
  """
  return _WORD.sub(lambda word: _repaired(word[0]), text)


def _repaired(word: str) -> str:
  if not _LEGACY_LETTER.search(word):
    return word
  proper = set(_LEGACY_LETTER.sub("", word).lower())
  if not proper or not proper <= set(ALPHABET):
    return word
  if "Y" in word and not word.isupper():
    return word
  # v, V and Y inside a Cyrillic word are evidence enough; in the others'
  # case the word could be Ukrainian or Old Russian.
  cyrillic = _LEGACY_LETTER.search(_LATIN_LEGACY.sub("", word))
  if cyrillic and (
    len(word) < 3 or _BACK_VOWEL.search(word) or _HIATUS.search(word)
  ):
    return word
  return word.translate(_LEGACY)
