"""The splitter against a gold file, and what it must never do."""

import pathlib

import hypothesis
import pytest
from hypothesis import strategies

from data_prep import documents, sentences

GOLD = pathlib.Path(__file__).parent / "gold" / "sentences.txt"


def _gold() -> list[tuple[str, ...]]:
  lines = GOLD.read_text(encoding="utf-8").splitlines()
  return list(
    documents.split(line for line in lines if not line.startswith("#"))
  )


def _ends(parts: list[str] | tuple[str, ...]) -> set[int]:
  """Where sentences end in the joined paragraph, its own end left out."""
  ends, position = set(), -1
  for part in parts:
    position += len(part) + 1
    ends.add(position)
  return ends - {position}


def test_the_gold_file_is_as_large_as_it_should_be() -> None:
  assert len(_gold()) >= 60
  assert sum(map(len, _gold())) >= 200


def test_boundaries_agree_with_the_gold_file() -> None:
  right = found = wanted = 0
  for gold in _gold():
    parts = sentences.split(" ".join(gold))
    ours, theirs = _ends(parts), _ends(gold)
    right, found = right + len(ours & theirs), found + len(ours)
    wanted += len(theirs)
    if ours != theirs:
      print("\n".join(["differs:", *parts]))
  precision, recall = right / found, right / wanted
  f1 = 2 * precision * recall / (precision + recall)
  print(f"precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")
  assert f1 > 0.99  # measured 0.998


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
    ("", 0),
  ],
)
def test_traps_of_mongolian_print(text: str, count: int) -> None:
  assert len(sentences.split(text)) == count, sentences.split(text)


def test_a_megabyte_in_one_line_takes_linear_time() -> None:
  long = "Ц. Бат " * 140_000
  assert len(sentences.split(long)) == 1
