"""Tests that exact and near copies are recognised, in any order."""

import itertools
import pathlib
import random

import pytest

from data_prep.classification import near_duplicates
from data_prep.text import similarity
from tests import likeness

PAIRS = similarity.Runs(2, with_end=True)
ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def sentences() -> list[str]:
  """Different sentences of ten words or more, sorted."""
  text = (ROOT / "sample/pretrain/wiki_articles.txt").read_text("utf-8")
  return sorted({line for line in text.splitlines() if len(line.split()) > 9})


def _changed(sentence: str, chance: random.Random, words: int = 1) -> str:
  changed = sentence.split()
  for at in chance.sample(range(len(changed)), words):
    changed[at] = f"үг{chance.random()}"
  return " ".join(changed)


def _similarity(left: str, right: str) -> float:
  a, b = _pairs(left), _pairs(right)
  return len(a & b) / len(a | b)


def _pairs(text: str) -> set[tuple[str, str]]:
  """Returns the pairs of neighbouring words of a text, and (last word, end)."""
  letters = (c if c.isalnum() else " " for c in near_duplicates.text_key(text))
  words = "".join(letters).split()
  return set(itertools.pairwise([*words, ""]))


@pytest.mark.parametrize("words", [6, 12, 40])
@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1])
def test_near_copies_are_those_whose_pairs_of_words_say_so(
  threshold: float, words: int
) -> None:
  """At least 98 % are copies at threshold + 0.05, at most 1 % at − 0.05."""
  chance = random.Random(f"{threshold} {words}")
  for change in (likeness.tail_changed, likeness.words_changed):
    for limit, at_most in ((threshold + 0.05, False), (threshold - 0.05, True)):
      texts = []
      for _ in range(200):
        text = likeness.words(chance, words)
        changed_words = change(chance, text, PAIRS, min(1, limit), at_most)
        pair = (" ".join(text), ", ".join(changed_words).upper())
        assert at_most == (_similarity(*pair) < threshold)
        texts.append(pair)
      first, second = map(list, zip(*texts, strict=True))
      copies = near_duplicates.between(first, second, threshold)
      groups = near_duplicates.clusters([*first, *second], threshold)
      if at_most:
        assert len(copies) <= 2
        assert len(groups) >= 398
      else:
        assert len(copies) >= 196
        assert len(groups) <= 204
      for index, copy in copies.items():
        assert copy.original == index
        exact = _similarity(first[index], second[index])
        assert copy.similarity == pytest.approx(exact)


def test_copies_of_training_texts_are_found_and_nothing_else(
  sentences: list[str],
) -> None:
  chance = random.Random(0)
  train, new = sentences[:600], sentences[600:800]
  exact = [f" {train[n].upper()} " for n in range(20)]
  near = [_changed(train[n], chance) for n in range(20, 60)]
  copies = near_duplicates.between(train, [*exact, *near, *new], 0.6)
  assert [copies[n].original for n in range(20)] == list(range(20))
  assert all(copies[n].exact and copies[n].similarity == 1 for n in range(20))
  assert {n for n in copies if n < 60} == set(range(60))
  assert all(copies[n].original == n for n in range(60))
  # What is left are sentences of the articles that are nearly the same.
  for n, copy in copies.items():
    if n >= 60:
      assert _similarity(new[n - 60], train[copy.original]) >= 0.6
  assert set(near_duplicates.between(train, [*exact, *near], 0)) == set(
    range(20)
  )


def test_clusters_join_copies_of_copies_in_any_order(
  sentences: list[str],
) -> None:
  chance = random.Random(0)
  chains = []
  for sentence in (s for s in sentences if len(s.split()) > 24):
    once = _changed(sentence, chance)
    chains.append([sentence, once, _changed(once, chance), once.upper()])
  texts = list(itertools.chain.from_iterable(chains[:100]))
  for _ in range(2):
    clusters = near_duplicates.clusters(texts, 0.6)
    assert sorted(itertools.chain(*clusters)) == list(range(400))
    groups = [{texts[i] for i in group} for group in clusters]
    assert all(any(group >= set(c) for group in groups) for c in chains[:100])
    assert len(groups) > 95  # some of the sentences are copies themselves
    chance.shuffle(texts)
  assert len(near_duplicates.clusters(texts, 0)) == 300


def test_texts_filled_in_by_machine_are_one_cluster() -> None:
  texts = [
    f"Доллар өнөөдөр Монголбанкны албан ханшаар {n} төгрөгтэй тэнцэж байна"
    for n in range(3000)
  ]
  assert len(near_duplicates.clusters(texts, 0.6)) == 1
  copies = near_duplicates.between(texts[:2900], texts[2900:], 0.6)
  assert len(copies) == 100


def test_texts_filled_in_by_machine_that_differ_too_much_stay_apart() -> None:
  """All texts share 5 of 13 pairs of words; a text and its copy share 9."""
  texts = [
    f"Долларын ханш өнөөдөр {n} төгрөг {n + 9000} мөнгө {n + 90000} болж байна"
    for n in range(700)
  ]
  copies = [f"{text} шүү" for text in texts]
  groups = near_duplicates.clusters([*texts, *copies], 0.6)
  assert groups == [[n, n + 700] for n in range(700)]
  copy_of = near_duplicates.between(texts, copies, 0.6)
  assert [copy.original for copy in copy_of.values()] == list(range(700))
  assert near_duplicates.between(texts[:350], copies[350:], 0.6) == {}


def test_a_crowd_too_large_to_compare_is_said(
  monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
  monkeypatch.setattr(near_duplicates, "_CROWD", 20)
  texts = [
    f"Долларын ханш өнөөдөр {n} төгрөг {n + 9000} мөнгө {n + 90000} болж байна"
    for n in range(700)
  ]
  assert len(near_duplicates.clusters(texts, 0.6)) == 700
  assert "each was compared with 20 of them" in caplog.text


def test_no_text_at_all_is_no_copy() -> None:
  assert near_duplicates.clusters([], 0.6) == []
  assert near_duplicates.between([], ["а"], 0.6) == {}
  assert near_duplicates.between(["а"], [], 0.6) == {}


def test_copies_are_seen_through_composition_but_not_through_letters() -> None:
  same = near_duplicates.text_key("сайн")
  assert same == near_duplicates.text_key("Саи\u0306н ")
  assert same != near_duplicates.text_key("саин")
