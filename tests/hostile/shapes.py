"""Makes texts of a given size whose repeats invite quadratic work.

    shapes.text("{{", 6)  # "{{{{{{", the shape of templates that are never closed

A shape is a unit that is repeated; what stands before and behind it may keep a
regular expression from ending early. All texts are harmless: at the sizes of
the tests, even quadratic work takes less than a second.
"""

import itertools
import random

# Letters, signs and spaces; marks in an order that NFC changes; HTML and its
# escapes; wikitext; numbers, addresses, links; Latin letters; typesetting.
_UNITS = (
  "а",
  " ",
  "\n",
  "\t",
  ".",
  "!",
  "…",
  ")",
  "(",
  '"',
  "'",
  "«",
  "-",
  "_",
  ", ",
  "\u0301\u0316",
  "а\u0306",
  "\u1100\u1161\u11a8",
  "😀",
  "\u200d",
  "\ufeff",
  "\v",
  "\x02",
  "\x06",
  "\U000f0000",
  "\U000f0000 ",
  "0",
  "1 ",
  "975",
  "XV",
  "&",
  "&amp;",
  "&#38",
  "&lt",
  "<",
  "</",
  "<a ",
  "<b>",
  "<sup>",
  "<ref>",
  "<ref ",
  "<!--",
  "<div ",
  "display:none ",
  "<h1>",
  "<td>",
  "{{",
  "}}",
  "{{{",
  "\n{|",
  "\n|",
  "[[",
  "]]",
  "[http://a ",
  "[[a|",
  "=",
  "\n=",
  "''",
  "\n'''а",
  "\n*",
  "{{a|",
  "{{#if:",
  "{{convert|",
  "Template:",
  "|5",
  "|б=",
  "a@",
  "a@a.",
  "-@",
  "http",
  "https://",
  " [1]",
  "дугаар ",
  "round 1 ",
  "v",
  "єє",
  "ii",
  "a'",
  "6",
  "ha",
  "а- ",
  "а-\n",
  "\u00ad",
  " ,",
  "( ",
  "#",
  "; ",
  "/",
  "ISBN ",
  "%",
)
# A text that no unit closes.
_ENDS = (("", ""), ("(1", "ь"), ("{{convert|", "}}"), ("{{", "|x}}"))


def names(seed: int = 0, pairs: int = 30) -> list[tuple[str, str]]:
  """Returns shapes: every unit alone, and pairs drawn by the seed.

  The first part of a pair fills half of the text, the second the rest.
  """
  rng = random.Random(seed)
  drawn = [(rng.choice(_UNITS), rng.choice(_UNITS)) for _ in range(pairs)]
  return [*((unit, unit) for unit in _UNITS), *drawn]


def text(shape: tuple[str, str], size: int, ends: int = 0) -> str:
  """Returns the text of a shape with about `size` characters.

  Args:
    shape: a pair that `names` returns.
    size: the number of characters.
    ends: 0 to 3, the choice of the text's beginning and end.
  """
  before, behind = _ENDS[ends]
  middle = "".join(
    "".join(itertools.repeat(unit, size // 2 // len(unit))) for unit in shape
  )
  return f"{before}{middle}{behind}"
