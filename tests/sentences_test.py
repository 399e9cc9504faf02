"""Tests the sentence splitter against gold files, and on hard cases."""

import pathlib

import hypothesis
import pytest
from hypothesis import strategies

from data_prep.files import documents
from data_prep.text import sentences

GOLD = pathlib.Path(__file__).parent / "gold"


def _gold(name: str) -> list[tuple[str, ...]]:
  lines = (GOLD / name).read_text(encoding="utf-8").splitlines()
  return list(
    documents.split(line for line in lines if not line.startswith("#"))
  )


def _ends(parts: list[str] | tuple[str, ...]) -> set[int]:
  """Returns the indices at which sentences end, without the paragraph's end.

  They count the characters of the joined paragraph.
  """
  ends, position = set(), -1
  for part in parts:
    position += len(part) + 1
    ends.add(position)
  return ends - {position}


def test_the_gold_file_is_as_large_as_it_should_be() -> None:
  assert len(_gold("sentences.txt")) >= 60
  assert sum(map(len, _gold("sentences.txt"))) >= 200


@pytest.mark.parametrize(
  ("name", "least"),
  [
    ("sentences.txt", 0.99),  # measured 0.994
    ("sentences_unseen.txt", 0.97),  # measured 0.980
  ],
)
def test_boundaries_agree_with_the_gold_files(name: str, least: float) -> None:
  right = ended = wanted = 0
  for gold in _gold(name):
    ours, theirs = _ends(sentences.split(" ".join(gold))), _ends(gold)
    right, ended = right + len(ours & theirs), ended + len(ours)
    wanted += len(theirs)
  f1 = 2 * right / (ended + wanted)
  print(f"precision {right / ended:.3f}, recall {right / wanted:.3f}, {f1:.3f}")
  assert f1 > least


@hypothesis.given(strategies.text("аБ .!?…\"'»(12IХ[]", max_size=80))
def test_only_white_space_is_lost(text: str) -> None:
  paragraph = " ".join(text.split())
  assert " ".join(sentences.split(paragraph)) == paragraph


@pytest.mark.parametrize(
  ("text", "count"),
  [
    ("Ц. Элбэгдорж ирэв. Тэр явна.", 2),
    ("И. Д. Черский ирэв.", 1),
    ("Проф. Дамдинсүрэн ирэв.", 1),
    ("1. Гэр бүл. 2. Ажил.", 2),
    ("Чи хэн бэ?! Би Бат.", 2),
    ('"Явъя." гэж хэлэв.', 1),
    ("4 дүгээр зүйл. Нэр томьёо. Энэ хуульд хэрэглэнэ.", 2),
    ("Тэр зүйл. Энэ зүйл.", 2),
    ("Хүснэгт 3. Хүн ам. Зураг 1.2. Уул.", 2),
    ('"Хэн бэ?" ("Who?") номыг уншив. Сайхан.', 2),
    ("Apple Inc. 1976 онд байгуулагдсан.", 1),
    ("Утас хэрэгтэй. iPhone авъя. хямд нь.", 2),
    ("Баярлалаа! 😊 Маргааш уулзъя.", 2),
    ("Баярлалаа. 😊 Маргааш.", 2),
    ("", 0),
  ],
)
def test_traps_of_mongolian_print(text: str, count: int) -> None:
  assert len(sentences.split(text)) == count, sentences.split(text)


def test_a_megabyte_in_one_line_takes_linear_time() -> None:
  long = "Ц. Бат " * 140_000
  assert len(sentences.split(long)) == 1
