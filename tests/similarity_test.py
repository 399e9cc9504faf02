"""Tests the similarity of texts against counting run by run."""

import itertools
import pathlib
import random

import numpy as np
import pytest

from data_prep.base import options
from data_prep.text import similarity
from tests import likeness

ROOT = pathlib.Path(__file__).resolve().parents[1]
FIVE = similarity.Runs(5, str.isalpha)
PAIRS = similarity.Runs(2, with_end=True)


def _runs(text: str, how: similarity.Runs) -> set[tuple[str, ...]]:
  """Returns the runs of words of a text, computed word by word."""
  words = "".join(x if how.part_of_word(x) else " " for x in text).split()
  words = [*(words or [f"no word, but {text}"]), *[""] * how.with_end]
  count = max(1, len(words) - how.length + 1)
  return {tuple(words[at : at + how.length]) for at in range(count)}


def _exact(left: str, right: str, how: similarity.Runs) -> float:
  a, b = _runs(left, how), _runs(right, how)
  return len(a & b) / len(a | b)


def _measured(texts: list[str], how: similarity.Runs) -> np.ndarray:
  """Returns the similarity of the first half to the second, text by text."""
  sets = similarity.sketches(texts, how).runs
  half = len(texts) // 2
  return similarity.jaccard(sets, np.arange(half), np.arange(half, 2 * half))


@pytest.mark.parametrize("how", [FIVE, PAIRS])
def test_the_similarity_of_real_texts_is_exact(how: similarity.Runs) -> None:
  chance = random.Random(0)
  text = (ROOT / "sample/pretrain/wiki_articles.txt").read_text("utf-8")
  texts = [line.lower() for line in text.splitlines() if line]
  changed = []
  for line in texts:
    words = line.split(" ")
    for _ in range(chance.randrange(4)):
      words.insert(chance.randrange(len(words)), chance.choice(words))
    changed.append(" ".join(words))
  exact = [_exact(a, b, how) for a, b in zip(texts, changed, strict=True)]
  assert len(set(exact)) > 100
  np.testing.assert_array_equal(_measured([*texts, *changed], how), exact)


def test_the_similarity_of_texts_of_any_letters_is_exact() -> None:
  letters = ["а", "й", "5", " ", "-", "\n", "🙂", "𝐀", "中", "\u0306", "\xa0"]
  texts = [
    "".join(x) for n in range(4) for x in itertools.product(letters, repeat=n)
  ]
  random.Random(0).shuffle(texts)
  texts = texts[: len(texts) // 2 * 2]
  half = len(texts) // 2
  for how in (FIVE, PAIRS):
    exact = [
      _exact(a, b, how) for a, b in zip(texts[:half], texts[half:], strict=True)
    ]
    np.testing.assert_array_equal(_measured(texts, how), exact)


@pytest.mark.parametrize("words", [1100, 4000])
@pytest.mark.parametrize("target", [0.45, 0.7, 0.95])
def test_the_similarity_of_long_texts_is_estimated(
  words: int, target: float
) -> None:
  """The estimate has a sample's deviation, for 1,024 runs, and no bias.

  The lowest hashes of two sets are a sample of their union (Broder 1997).
  """
  chance = random.Random(0)
  texts = [likeness.words(chance, words) for _ in range(100)]
  how = similarity.Runs(5)
  changed = [likeness.tail_changed(chance, x, how, target) for x in texts]
  estimates = _measured([" ".join(x) for x in (*texts, *changed)], how)
  runs = 2 * words / (1 + target)
  deviation = np.sqrt(target * (1 - target) / 1024 * (1 - 1024 / runs))
  assert abs(estimates.mean() - target) < 4 * deviation / np.sqrt(100) + 0.001
  assert estimates.std() < 1.3 * deviation


def test_a_short_text_within_a_long_one_is_as_similar_as_their_runs_say() -> (
  None
):
  words = likeness.words(random.Random(0), 4004)
  texts = [" ".join(words[:2004]), " ".join(words), " ".join(words[:104])]
  sets = similarity.sketches(texts, similarity.Runs(5)).runs
  estimates = similarity.jaccard(sets, np.array([0, 2, 2]), np.array([1, 0, 1]))
  assert estimates == pytest.approx([0.5, 0.05, 0.025], abs=0.04)


def test_a_sketch_does_not_depend_on_the_texts_beside_it(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  chance = random.Random(0)
  texts = ["", "🙂", "үг", "...", "🙃", "а " * 9000, "а" * 9000] + [
    " ".join(likeness.words(chance, n)) for n in range(1, 90)
  ]
  for how in (FIVE, PAIRS):
    together = similarity.sketches(texts, how)
    monkeypatch.setattr(similarity, "_HASHED", 30)
    monkeypatch.setattr(similarity, "_LETTERS", 70)
    monkeypatch.setattr(similarity, "_COMPARED", 10)
    alone = similarity.sketches(texts, how)
    np.testing.assert_array_equal(together.minima, alone.minima)
    np.testing.assert_array_equal(together.runs.hashes, alone.runs.hashes)
    np.testing.assert_array_equal(together.runs.sizes, alone.runs.sizes)
    monkeypatch.undo()
    assert len(np.unique(together.minima[:5], axis=0)) == 5


def test_no_text_has_no_sketch() -> None:
  assert len(similarity.sketches([], PAIRS).runs.sizes) == 0


def test_bands_propose_what_they_say_from_any_threshold() -> None:
  for threshold in [*np.arange(0.05, 1, 0.01), 0.999, 1 - 1e-16, 1.0]:
    bands = similarity.bands(threshold)
    assert bands.count * bands.values <= 160
    missed = (1 - threshold**bands.values) ** bands.count
    assert missed <= 0.005 or (threshold < 0.06 and missed < 0.01)
    if threshold >= 0.5:  # the issue with few values: all is proposed
      assert 1 - (1 - 0.02**bands.values) ** bands.count < 0.001


def test_texts_agree_in_as_many_bands_as_their_similarity_says() -> None:
  chance = random.Random(0)
  texts = [likeness.words(chance, 30) for _ in range(2000)]
  how = similarity.Runs(2)
  changed = [likeness.tail_changed(chance, x, how, 0.6) for x in texts]
  exact = _exact(" ".join(texts[0]), " ".join(changed[0]), how)
  minima = similarity.sketches(
    [" ".join(x) for x in (*texts, *changed)], how
  ).minima
  assert abs((minima[:2000] == minima[2000:]).mean() - exact) < 0.005
  bands = similarity.bands(0.6)
  keys = similarity.band_keys(minima, bands)
  agree = (keys[:2000] == keys[2000:]).mean()
  assert abs(agree - exact**bands.values) < 0.005
  assert len(np.unique(keys[:2000])) == 2000 * bands.count


@pytest.mark.parametrize("threshold", [0, 0.05, 0.8, 1])
def test_thresholds_that_can_be_served_are_accepted(threshold: float) -> None:
  similarity.check(threshold)


@pytest.mark.parametrize("threshold", [-1, 0.04, 1.5, float("nan")])
def test_a_threshold_that_cannot_be_served_is_refused(threshold: float) -> None:
  with pytest.raises(options.InputError, match="near_duplicates"):
    similarity.check(threshold)
