"""Copies, exact and near: found among the others, in any order."""

import itertools
import pathlib
import random

import numpy as np
import pytest

from data_prep import near_duplicates

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def sentences() -> list[str]:
  """Different ones, of ten words or more."""
  text = (ROOT / "sample/pretrain/wiki_articles.txt").read_text("utf-8")
  return sorted({line for line in text.splitlines() if len(line.split()) > 9})


def _changed(sentence: str, chance: random.Random, words: int = 1) -> str:
  found = sentence.split()
  for at in chance.sample(range(len(found)), words):
    found[at] = f"үг{chance.random()}"
  return " ".join(found)


def _pairs(text: str) -> set[tuple[str, str]]:
  """Word by word, what the arrays compute all at once."""
  letters = (c if c.isalnum() else " " for c in near_duplicates.text_key(text))
  words = "".join(letters).split()
  return set(itertools.pairwise([*words, ""]))


def test_the_estimate_is_the_share_of_word_pairs_in_common(
  sentences: list[str],
) -> None:
  chance = random.Random(0)
  changed = [_changed(s, chance, 1 + n % 8) for n, s in enumerate(sentences)]
  values = near_duplicates.signatures([*sentences, *changed])
  ours, others = np.split(values, 2)
  estimate = (ours == others).mean(axis=1)
  exact = np.array(
    [
      len(a & b) / len(a | b)
      for a, b in zip(map(_pairs, sentences), map(_pairs, changed), strict=True)
    ]
  )
  assert len(exact) > 1000
  assert abs((estimate - exact).mean()) < 0.003
  assert (estimate - exact).std() < 0.044


def test_a_signature_does_not_depend_on_the_texts_beside_it(
  sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
  texts = ["", "🙂", "үг", "...", *sentences[:50], "🙃", "а " * 9000]
  together = near_duplicates.signatures(texts)
  monkeypatch.setattr(near_duplicates, "_PAIRS", 30)
  monkeypatch.setattr(near_duplicates, "_TEXTS", 7)
  alone = near_duplicates.signatures(texts)
  np.testing.assert_array_equal(together, alone)
  assert len(np.unique(together[:4], axis=0)) == 4


def test_copies_of_training_texts_are_found_and_nothing_else(
  sentences: list[str],
) -> None:
  chance = random.Random(0)
  train, new = sentences[:600], sentences[600:800]
  exact = [f" {train[n].upper()} " for n in range(20)]
  near = [_changed(train[n], chance) for n in range(20, 60)]
  found = near_duplicates.between(train, [*exact, *near, *new], 0.6)
  assert [found[n].other for n in range(20)] == list(range(20))
  assert all(found[n].exact and found[n].similarity == 1 for n in range(20))
  assert {n for n in found if n < 60} == set(range(60))
  assert all(found[n].other == n for n in range(60))
  # What is left are sentences of the articles that are nearly the same.
  for n, copy in found.items():
    if n >= 60:
      a, b = _pairs(new[n - 60]), _pairs(train[copy.other])
      assert len(a & b) / len(a | b) > 0.5
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
    found = near_duplicates.clusters(texts, 0.6)
    assert sorted(itertools.chain(*found)) == list(range(400))
    groups = [{texts[i] for i in group} for group in found]
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
  found = near_duplicates.between(texts[:2900], texts[2900:], 0.6)
  assert len(found) == 100


def test_no_text_at_all_is_no_copy() -> None:
  assert near_duplicates.clusters([], 0.6) == []
  assert near_duplicates.between([], ["а"], 0.6) == {}
  assert near_duplicates.between(["а"], [], 0.6) == {}


def test_copies_are_seen_through_composition_but_not_through_letters() -> None:
  same = near_duplicates.text_key("сайн")
  assert same == near_duplicates.text_key("Саи\u0306н ")
  assert same != near_duplicates.text_key("саин")
