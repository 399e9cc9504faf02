"""Tests that a changed text keeps the origin of each of its characters."""

import itertools
import random
import re
import unicodedata

import pytest

from data_prep.classification import tweets
from data_prep.text import alignment, normalization
from tests import troublesome_texts

_LOWER = alignment.LetterByLetter(str.lower)


@pytest.mark.parametrize(
  ("text", "parts", "expected"),
  [
    ("СаЙн УУ", ["сайн", " уу"], ["СаЙн", " УУ"]),
    ("İЯ", ["i", "\u0307", "я"], ["", "İ", "Я"]),  # shared: the last has it
    ("ΑΣ Σ", ["ας", " σ"], ["ΑΣ", " Σ"]),
  ],
)
def test_letters_stay_with_what_became_of_them(
  text: str, parts: list[str], expected: list[str]
) -> None:
  traced = alignment.Traced.of(text).each(_LOWER)
  assert traced.text == "".join(parts) == text.lower()
  assert traced.stretches(parts) == expected


@pytest.mark.parametrize(
  ("pattern", "new", "text", "parts", "expected"),
  [
    ("…", "...", "За… өө", ["За", "...", " өө"], ["За", "…", " өө"]),
    ("…", "...", "За… өө", ["За.", ".. өө"], ["За", "… өө"]),
    ("b+", "b", "abbbc", ["a", "b", "c"], ["a", "bbb", "c"]),
    # What is dropped belongs to what stands before it, or begins the first.
    ("[xy]", "", "xаyбx", ["а", "б"], ["xаy", "бx"]),
    # What is put in stands for nothing.
    ("^", "[!] ", "аб", ["[!]", " а", "б"], ["", "а", "б"]),
    # Nothing in common: the parts have even shares.
    ("abcd", "xy", "-abcd-", ["-x", "y-"], ["-ab", "cd-"]),
  ],
)
def test_replaced_stretches_belong_to_their_replacements(
  pattern: str, new: str, text: str, parts: list[str], expected: list[str]
) -> None:
  traced = alignment.Traced.of(text).sub(re.compile(pattern), new)
  assert traced.text == "".join(parts) == re.sub(pattern, new, text)
  assert traced.stretches(parts) == expected


def test_marks_that_change_places_are_not_told_apart() -> None:
  """NFD sorts marks by their class: class 216 comes before class 226."""
  decompose = alignment.LetterByLetter(
    lambda text: unicodedata.normalize("NFD", text)
  )
  text = "а\U0001d16d\U0001d165б"
  traced = alignment.Traced.of(text).each(decompose)
  assert traced.text == "а\U0001d165\U0001d16dб"
  parts = ["а", "\U0001d165", "\U0001d16d", "б"]
  assert traced.stretches(parts) == ["а", "", "\U0001d16d\U0001d165", "б"]


def test_several_changes_lead_back_to_the_first_text() -> None:
  traced = alignment.Traced.of("ТЭР&hellip; ДОРЖ").sub(
    re.compile("&hellip;"), "…"
  )
  traced = traced.each(_LOWER).sub(re.compile("…"), "...")
  assert traced.text == "тэр... дорж"
  parts = ["тэр", "...", " дорж"]
  assert traced.stretches(parts) == ["ТЭР", "&hellip;", " ДОРЖ"]


_TWEETS = (
  *troublesome_texts.PARTS,
  "&amp;",
  "&amp;amp;lt;",
  "&#1234;",
  "&NotEqualTilde;",
  "&",
  "#38;",
  "https://t.co/aB3&amp;c",
  "www.a.mn/ё",
  "pic.twitter.com/x",
  "@bold",
  "@хүн",
  "ааааа",
  "!!!!!",
  "хахахахаха",
  "sain baina uu",
  "bgaa uchir",
  "xhttp",
  "#Mongolia",
  "shd",
  "[латин] ",
  "\u1100\u1161\u11a8",
  "\u0f71\u0f72",
  "\u0344",
  "\u09c7\u09be",
)


@pytest.mark.parametrize("latin", ["keep", "mark", "transliterate"])
def test_every_letter_of_a_tweet_belongs_to_one_stretch(latin: str) -> None:
  draw = random.Random(3)
  for _ in range(3_000):
    text = "".join(draw.choices(_TWEETS, k=draw.randint(1, 15)))
    traced = tweets.traced(text, latin)
    assert len(traced.starts) == len(traced.text)
    parts = re.findall(".{1,4}", traced.text, re.DOTALL)
    if parts:
      assert "".join(traced.stretches(parts)) == text, ascii(text)
    starts = [*traced.starts, len(text)]
    assert all(a <= b for a, b in itertools.pairwise(starts)), ascii(text)


def test_traced_normalization_is_normalization() -> None:
  draw = random.Random(4)
  for _ in range(10_000):
    text = "".join(draw.choices(_TWEETS, k=draw.randint(1, 15)))
    traced = normalization.traced(alignment.Traced.of(text))
    assert traced.text == normalization.normalize(text), ascii(text)


def test_a_link_a_mention_and_drawn_out_letters_are_those_that_were_typed() -> (
  None
):
  text = "Саи\u0306н @bold &lt;3 https://t.co/x баярлалааааа"
  traced = tweets.traced(text)
  assert traced.text == "Сайн @ <3 http баярлалаа"
  parts = ["Сайн", " @", " <", "3", " http", " баярлалаа"]
  assert traced.stretches(parts) == [
    "Саи\u0306н",
    " @bold",
    " &lt;",
    "3",
    " https://t.co/x",
    " баярлалааааа",
  ]


@pytest.mark.parametrize(
  ("text", "span", "expected"),
  [
    (" \u200bДорж\xad,", (0, 7), (2, 6)),
    ("Дорж", (0, 4), (0, 4)),
    ("а \t б", (1, 4), (4, 4)),
    ("Би\u0438\u0306 ", (0, 5), (0, 4)),
  ],
)
def test_a_trimmed_stretch_begins_and_ends_with_what_can_be_seen(
  text: str, span: tuple[int, int], expected: tuple[int, int]
) -> None:
  assert alignment.trimmed(text, *span) == expected


def test_a_mark_stays_with_its_letter() -> None:
  def is_blank(letter: str) -> bool:
    return letter.isspace() or bool(unicodedata.combining(letter))

  assert alignment.trimmed(" Саи\u0306 ", 0, 6, is_blank) == (1, 5)
  assert alignment.trimmed("\u0306 \u0306", 0, 3, is_blank) == (3, 3)
