"""Mongolian text without accidents: one form of each letter, none lost.

    normalize("Саи\\u0306н\\u00a0 байна уу")  # "Сайн байна уу"

Letters are composed (NFC), so that й and ё are one letter each however they
were typed; google-research's preprocessing decomposes them and drops the
marks (сайн → саин). Compatibility forms stay (№ is not No).
"""

import re
import unicodedata

from data_prep import legacy_letters

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


def normalize(text: str, repair_legacy: bool = False) -> str:
  """Returns the text composed, without control characters, spaces unified.

  Args:
    text: one line or paragraph.
    repair_legacy: also put ө and ү where a legacy font left є, ї, ѳ or v.
  """
  if not text.isprintable():  # which is faster, and has nothing invisible
    text = _INVISIBLE.sub("", text)
  unified = " ".join(unicodedata.normalize("NFC", text).split())
  return legacy_letters.repair(unified) if repair_legacy else unified
