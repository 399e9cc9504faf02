"""Texts on which two tokenizers have been seen to differ."""

import random

# Spaces of all kinds, composed letters, a long text.
FEW = [
  "сайн байна уу",
  "",
  " \t",
  "Саи\u0306н Е\u0308лка ХОЁР",
  "\u200bа\u00a0 б  ",
  "☺️ 5%",
  "Их Хурлын гишүүд өнөөдөр хуралдаж, шинэ хуулийг хэлэлцэв. " * 9,
]

# Characters and short strings; white space is frequent.
PARTS = (
  *"абвгдеёжзийклмноөпрстуүфхцчшщъыьэюяАБЙЁӨҮІїєabcXYZ019.,!?-()@#:",
  *([" "] * 12),
  *"\t\n\r\v\f\0\x01\x1f\x7f\x85\xa0\xad",
  *"\u200b\u200c\u200d\u200e\u2028\u2029\u202f\u2060\u3000\ufeff\ufff0\ufff1",
  *"\uffff\ue000\U000f0000\U000f0001",
  *map(chr, range(0x300, 0x346)),
  "и\u0306",
  "е\u0308",
  "И\u0306",
  "Е\u0308",
  "u\u0308\u0304",
  "α\u0313\u0301\u0345",
  "か\u3099",
  "ﬁ",
  "²",
  "№",
  "Ⅰ",
  "①",
  "Ａ",
  "İ",
  "ß",
  "Σ",
  "ς",
  "😀",
  "👨‍👩‍👧‍👦",
  "🇲🇳",
  "☺️",
  "▁",
  "▁▁",
  "ᠮᠣᠩᠭᠣᠯ",
  "漢字",
  "العربية",
  "हिन्दी",
  "@USER",
  "S@L",
  ":-)",
  "@user",
)


def drawn(count: int, seed: int = 6) -> list[str]:
  """Returns short texts, the same ones for the same seed.

  They are six fixed texts of spaces or nothing, `count` texts of one to thirty
  PARTS, and a third as many of twenty random characters.
  """
  draw = random.Random(seed)
  texts = ["", " ", "\t", "▁", " ▁ ", "\u200b"]
  texts += [
    "".join(draw.choices(PARTS, k=draw.randint(1, 30))) for _ in range(count)
  ]
  planes = ((0x20, 0x600), (0x20, 0x3000), (0x20, 0xD800), (0xE000, 0x20000))
  for _ in range(count // 3):
    letters = (chr(draw.randrange(*draw.choice(planes))) for _ in range(20))
    texts.append("".join(letters))
  return texts
