"""Tests of recognising Mongolian in Latin letters, and of converting it."""

import pytest

from data_prep.text import latin_script
from tests import running

_CYRILLIC = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
_PLAIN = (
  "a b v g d ye yo j z i i k l m n o p r s t u f h ts ch sh shch  ii i e yu ya"
)
_BASE = dict(zip(_CYRILLIC, _PLAIN.split(" "), strict=True))
# Three ways in which people spell.
_SPELLINGS = {
  "u": {**_BASE, "ө": "u", "ү": "u"},
  "o, kh": {**_BASE, "ө": "o", "ү": "u", "х": "kh", "ь": "", "ы": "y"},
  "o, v, x, c": {**_BASE, "ө": "o", "ү": "v", "х": "x", "ц": "c"},
}


def _to_cyrillic(text: str) -> str:
  return latin_script.LATIN_WORD.sub(
    lambda match: latin_script.cyrillic_word(match[0]), text
  )


def _sentences() -> list[str]:
  text = (running.ROOT / "sample/pretrain/wiki_articles.txt").read_text("utf-8")
  lines = (line.lower() for line in text.splitlines())
  return [line for line in lines if 4 < len(line.split()) < 25][:800]


def _latin(sentence: str, spelling: str) -> str:
  letters = _SPELLINGS[spelling]
  return "".join(letters.get(letter, letter) for letter in sentence)


@pytest.mark.parametrize(
  ("spelling", "least_recognized", "least_right"),
  [("u", 0.85, 0.75), ("o, kh", 0.7, 0.75), ("o, v, x, c", 0.75, 0.8)],
)
def test_sentences_in_latin_letters_are_found_and_mostly_put_right(
  spelling: str, least_recognized: float, least_right: float
) -> None:
  sentences = _sentences()
  latin = [_latin(sentence, spelling) for sentence in sentences]
  share = sum(map(latin_script.is_mongolian, latin)) / len(latin)
  pairs = [
    (word, guess)
    for sentence, latin_sentence in zip(sentences, latin, strict=True)
    for word, guess in zip(
      sentence.split(), _to_cyrillic(latin_sentence).split(), strict=True
    )
  ]
  words = sum(word == guess for word, guess in pairs) / len(pairs)
  print(f"{spelling}: {share:.3f} found, {words:.3f} of the words right")
  assert share > least_recognized
  assert words > least_right
  assert not any(map(latin_script.is_mongolian, sentences))


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("sain baina uu, yu bgaa ve", "сайн байна уу, юу байгаа вэ"),
    ("Ene mash goy bn shuu", "Энэ маш гой байна шүү"),
    ("hvn bolgon bayarlalaa", "хүн болгон баярлалаа"),
    ("BI CHAMD HAIRTAI", "БИ ЧАМД ХАЙРТАЙ"),
    ("ulsiin odor", "улсын өдөр"),
  ],
)
def test_what_people_write_is_put_right(text: str, expected: str) -> None:
  assert latin_script.is_mongolian(text)
  assert _to_cyrillic(text) == expected


@pytest.mark.parametrize(
  "text",
  [
    "This is the best thing that has ever happened to me",
    "good morning twitter",
    "lol thats so funny",
    "no way!!!",
    "Breaking: the president of the United States has arrived in Berlin",
    "Сайн байна уу, Facebook?",
    "Хан банк bn",
    "12:30",
    "",
  ],
)
def test_english_and_cyrillic_are_let_be(text: str) -> None:
  assert not latin_script.is_mongolian(text)
