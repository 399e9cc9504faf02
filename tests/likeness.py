"""Makes pairs of texts of a given similarity, to test near duplicates."""

import random
from collections.abc import Sequence

from data_prep.text import similarity


def words(chance: random.Random, count: int) -> list[str]:
  """Returns `count` different random words."""
  return [f"үг{chance.getrandbits(60)}" for _ in range(count)]


def tail_changed(
  chance: random.Random,
  text: Sequence[str],
  runs: similarity.Runs,
  wanted: float,
  at_most: bool = False,
) -> list[str]:
  """Returns a text whose last words are replaced by new words.

  Args:
    chance: makes the new words.
    text: the words of a text.
    runs: the kind of word sequences that are compared.
    wanted: the lowest similarity of the two texts. Words are replaced, one
      after the other, while the similarity stays at or above it.
    at_most: whether `wanted` is the highest similarity instead; words are then
      replaced until the similarity is not above it.
  """
  order = range(len(text))[::-1]
  return _changed(chance, text, runs, wanted, at_most, order)


def words_changed(
  chance: random.Random,
  text: Sequence[str],
  runs: similarity.Runs,
  wanted: float,
  at_most: bool = False,
) -> list[str]:
  """Returns a text in which words at random places are replaced by new words.

  The arguments, and the number of replaced words, are as in `tail_changed`.
  """
  order = list(range(len(text)))
  chance.shuffle(order)
  return _changed(chance, text, runs, wanted, at_most, order)


def _changed(
  chance: random.Random,
  text: Sequence[str],
  runs: similarity.Runs,
  wanted: float,
  at_most: bool,
  order: Sequence[int],
) -> list[str]:
  """Replaces words in an order until the texts have the similarity.

  If t of n different word sequences contain a replaced word, the two texts have
  n - t sequences in common, of n + t in total.
  """
  count = len(text) - runs.length + 1 + runs.with_end
  touched: set[int] = set()
  changed = list(text)
  for at in order:
    if at_most and (count - len(touched)) / (count + len(touched)) <= wanted:
      break
    touched.update(range(max(0, at - runs.length + 1), min(at + 1, count)))
    # 1e-9: 0.8 + 0.05 is a little more than 0.85.
    now = (count - len(touched)) / (count + len(touched)) + 1e-9
    if not at_most and now < wanted:
      break
    (changed[at],) = words(chance, 1)
  return changed
