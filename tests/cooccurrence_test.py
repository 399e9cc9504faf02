"""Tests the counts of neighbouring pieces against plain loops."""

import numpy as np

from data_prep.pretraining import cooccurrence

VOCAB = 12


def _stretch(*sequences: list[int]) -> np.ndarray:
  return np.array([i for s in sequences for i in [*s, -1]], np.int32)


def _counted(
  *stretches: np.ndarray, workers: int = 1, contexts: int = 100
) -> cooccurrence.Counts:
  frequencies = cooccurrence.frequencies(stretches, VOCAB)
  return cooccurrence.count(stretches, frequencies, workers, contexts)


def test_neighbours_weigh_one_over_their_distance() -> None:
  # A sequence of seven different pieces: 1 … 7.
  counts = _counted(_stretch([1, 2, 3, 4, 5, 6, 7]))
  column = list(counts.contexts).index
  assert counts.near[1, column(2)] == 60
  assert counts.near[1, column(4)] == 20
  assert counts.near[1, column(7)] == 10
  assert counts.near[7, column(1)] == 10
  assert counts.near[8].sum() == 0


def test_an_end_or_a_special_piece_separates_neighbours() -> None:
  counts = _counted(_stretch([1, 2], [3, 4]), np.array([5, -1, 6, -1]))
  column = list(counts.contexts).index
  assert counts.near[2, column(3)] == counts.together[2, column(3)] == 0
  assert counts.near[5, column(6)] == counts.together[5, column(6)] == 0


def _slow_counts(sequences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
  """Returns (near, together) of `Counts`, computed by loops over positions.

  Every piece has a column.
  """
  near, together = np.zeros((2, VOCAB, VOCAB), np.int64)
  for sequence in sequences:
    for i, piece in enumerate(sequence):
      for j, neighbour in enumerate(sequence):
        if 0 < abs(i - j) <= cooccurrence.WINDOW:
          near[piece, neighbour] += 60 // abs(i - j)
    for start in range(0, len(sequence), cooccurrence.BLOCK):
      block = sequence[start : start + cooccurrence.BLOCK]
      times = {piece: min(block.count(piece), 2) for piece in block}
      for piece in times:
        for neighbour in times.keys() - {piece}:
          together[piece, neighbour] += times[piece] * times[neighbour]
  return near, together


def test_counts_equal_those_of_loops_for_any_workers_and_stretches() -> None:
  random = np.random.default_rng(3)
  sequences = [
    random.integers(0, VOCAB, size).tolist() for size in (1, 5, 80, 33, 64, 0)
  ]
  near, together = _slow_counts(sequences)
  alone = [_stretch(sequence) for sequence in sequences]
  for stretches, workers in (
    ([_stretch(*sequences)], 1),
    (alone, 1),
    (alone[::-1], 2),
  ):
    counts = _counted(*stretches, workers=workers)
    np.testing.assert_array_equal(counts.near, near[:, counts.contexts])
    np.testing.assert_array_equal(counts.together, together[:, counts.contexts])


def test_only_the_most_frequent_pieces_are_columns() -> None:
  counts = _counted(_stretch([1, 2, 2, 2, 3, 3, 4]), contexts=2)
  assert counts.contexts.tolist() == [2, 3]
  assert counts.near.shape == (VOCAB, 2)
  assert counts.near[4].any()


def test_a_small_vocabulary_has_a_column_for_each_piece() -> None:
  assert cooccurrence.most_contexts(8000) >= 8000
  assert cooccurrence.most_contexts(30_000) == 4096
